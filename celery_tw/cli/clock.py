"""`tw clock`: what a person can do after the clock of Redis has stepped."""

from datetime import datetime

import click

from celery_tw.cli.output import json_option, write_json, write_table, yes_option
from celery_tw.cli.session import wheel_of
from celery_tw.cli.words import duration, moment
from celery_tw.integration.moments import from_ms
from celery_tw.integration.timewheel import TimeWheel

SHOWN = 20


@click.group()
def clock() -> None:
    """Deal with a step of the server's clock."""


@clock.command()
@json_option
@click.pass_context
def show(ctx: click.Context, as_json: bool) -> None:
    """Tell whether dispatch is held, and which entries were decided for a time to come."""
    wheel = wheel_of(ctx)
    held, ahead = wheel.clock.held(), wheel.clock.ahead_of_time()
    if as_json:
        write_json(
            {
                "held": held is not None,
                "held_since": from_ms(held["at"]) if held else None,
                "step": held["step"] / 1000 if held else None,
                "ahead_of_time": [{"name": name, "mark": mark} for name, mark in ahead],
            }
        )
        return
    if held:
        since, step = moment(from_ms(held["at"]), wheel.app.timezone), duration(abs(held["step"]), units=2)
        click.echo(f"Dispatch is held since {since}: Redis time stepped by {step}. If the new time is right: tw clock accept")
    else:
        click.echo("Dispatch is not held.")
    _write_ahead(wheel, ahead)


def _write_ahead(wheel: TimeWheel, ahead: list[tuple[str, datetime]]) -> None:
    rows = [(name, moment(mark, wheel.app.timezone)) for name, mark in ahead[:SHOWN]]
    write_table(("entry", "decided up to"), rows, empty="No entry is decided for a time to come.")
    if len(ahead) > SHOWN:
        click.echo(f"and {len(ahead) - SHOWN} more")
    if ahead:
        click.echo("They fire again after that, or at once after: tw clock repair")


@clock.command()
@json_option
@yes_option
@click.pass_context
def accept(ctx: click.Context, as_json: bool, yes: bool) -> None:
    """Take Redis time as it is now, and let dispatch go on."""
    wheel = wheel_of(ctx)
    held = wheel.clock.held()
    if held and not yes:
        waiting = wheel.status().late
        step = duration(abs(held["step"]), units=2)
        click.confirm(f"Accept a step of {step}? {waiting} entries are due by the new time.", abort=True, err=True)
    accepted = wheel.clock.accept()
    if as_json:
        write_json({"accepted": accepted})
    else:
        click.echo("Accepted: dispatch goes on." if accepted else "Dispatch is not held: nothing to accept.")


@clock.command()
@json_option
@yes_option
@click.pass_context
def repair(ctx: click.Context, as_json: bool, yes: bool) -> None:
    """Set the entries that were decided for a time to come back to now."""
    wheel = wheel_of(ctx)
    count = len(wheel.clock.ahead_of_time())
    if count and not yes:
        click.confirm(f"Set {count} entries back to now? Slots they fired early may be fired again.", abort=True, err=True)
    repaired = wheel.clock.repair() if count else []
    if as_json:
        write_json({"repaired": repaired})
    else:
        click.echo(f"{len(repaired)} entries set back to now." if repaired else "No entry is decided for a time to come.")
