"""`tw eject`: the way out, for the tasks that wait."""

import click

from celery_tw.cli.output import json_option, write_json, yes_option
from celery_tw.cli.session import wheel_of
from celery_tw.integration.deferring.eject import Ejected


@click.command()
@json_option
@yes_option
@click.pass_context
def eject(ctx: click.Context, as_json: bool, yes: bool) -> None:
    """Hand every waiting one-time task back to Celery.

    Each becomes a message with an ETA, under its own id, and waits in a worker from now on. Set tw_defer_eta to "off" first, or new ones
    follow. Recurring entries and paused tasks stay.
    """
    wheel = wheel_of(ctx)
    count = wheel.ejector.count()
    if count and not yes:
        click.confirm(f"Hand {count} waiting tasks back to Celery? Workers hold them until they are due.", abort=True, err=True)
    done = wheel.ejector.eject() if count else Ejected(0, 0, 0, 0)
    if as_json:
        write_json({"eject": done})
    else:
        click.echo(_words(done))


def _words(done: Ejected) -> str:
    parts = [f"{done.ejected} tasks handed back to Celery"]
    parts += [
        f"{number} {what}" for number, what in ((done.paused, "paused and left waiting"), (done.refused, "refused: see the log")) if number
    ]
    return "; ".join(parts) + "."
