"""Timing: the options that say when, the same for `add` and `preview`, and the schedule they make.

Exactly one of ``--cron``, ``--every``, ``--at`` and ``--rrule``.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import click

from celery_tw.cli.moments import Moment, in_zone
from celery_tw.integration.schedules.written import cron, every, once, rrule

KINDS = ("cron", "every", "at", "rrule")

tz_option: Callable[[Any], Any] = click.option("--tz", metavar="ZONE", help="Time zone of what you type, such as Europe/Berlin; the app's.")
start_option: Callable[[Any], Any] = click.option(
    "--start", type=Moment(), help="No slot before this moment; for --rrule also the start it counts from."
)


def timing_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say when to a command."""
    options = (
        click.option("--cron", metavar="EXPR", help='Cron expression, such as "0 2 * * mon-fri"; six fields begin with seconds.'),
        click.option("--every", type=float, metavar="SECONDS", help="Interval in seconds, at least 0.01."),
        click.option("--at", type=Moment(), help="Once, at this moment; without an offset it is wall time in --tz."),
        click.option("--rrule", metavar="RULE", help='RFC 5545 rule, such as "FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=17".'),
        tz_option,
        start_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


def schedule_given(ctx: click.Context, *, tz: str | None, start: datetime | None, **kinds: Any) -> Any:
    """Return the schedule that the options name; *start* is aware. Raises a usage error unless exactly one kind is given."""
    given = [kind for kind in KINDS if kinds[kind] is not None]
    if len(given) != 1:
        came = " and ".join(f"--{kind}" for kind in given) or "none"
        raise click.UsageError(f"give one of --cron, --every, --at and --rrule, not {came}", ctx)
    kind, value = given[0], kinds[given[0]]
    if kind == "cron":
        return cron(value, tz=tz)
    if kind == "every":
        return every(value)
    if kind == "rrule":
        return rrule(value, tz=tz, start=start)
    return once(_aware(value, tz, ctx))


def _aware(moment: datetime, tz: str | None, ctx: click.Context) -> datetime:
    aware = in_zone(moment, tz=tz, app=ctx.obj.app)
    assert aware is not None
    return aware
