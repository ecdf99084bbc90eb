"""`tw schedule add`: store an entry, or change one. It is `TimeWheel.schedule` with words instead of objects."""

import json
from datetime import datetime
from difflib import get_close_matches
from typing import Any

import click

from celery_tw.cli.moments import Moment, in_zone
from celery_tw.cli.output import json_option, write_json
from celery_tw.cli.redaction import redacted_entry
from celery_tw.cli.session import wheel_of
from celery_tw.cli.timing import schedule_given, timing_options
from celery_tw.cli.words import moment, schedule_words
from celery_tw.core.misfire import POLICIES
from celery_tw.core.overlap import POLICIES as POLICIES_OF_OVERLAP
from celery_tw.integration.entries.views import Entry
from celery_tw.integration.timewheel import TimeWheel


class JSONValue(click.ParamType):
    """A JSON value of one type."""

    def __init__(self, kind: type, word: str) -> None:
        self.kind = kind
        self.name = word

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            read = json.loads(value)
        except ValueError as error:
            self.fail(f"{value!r} is no JSON: {error}", param, ctx)
        if not isinstance(read, self.kind):
            self.fail(f"expected a {self.name}, not {value!r}", param, ctx)
        return read


@click.command()
@click.argument("name")
@click.argument("task")
@timing_options
@click.option("--args", type=JSONValue(list, "JSON list"), default="[]", help="Positional arguments, such as '[1, \"a\"]'.")
@click.option("--kwargs", type=JSONValue(dict, "JSON object"), default="{}", help="Keyword arguments, such as '{\"year\": 2026}'.")
@click.option("--queue", help="Send to this queue instead of where the routes say.")
@click.option("--misfire", type=click.Choice(POLICIES), help="What becomes of missed slots; tw_misfire.")
@click.option("--overlap", type=click.Choice(POLICIES_OF_OVERLAP), help="What becomes of a slot while an earlier fire runs; tw_overlap.")
@click.option("--tolerance", type=float, metavar="SECONDS", help="A slot at most this late is simply fired; tw_fire_tolerance.")
@click.option("--jitter", type=float, default=0.0, metavar="SECONDS", help="Spread the fires over so many seconds after their slots.")
@click.option("--end", type=Moment(), help="No slot after this moment.")
@click.option("--max-runs", type=click.IntRange(1), help="Finished after so many fires.")
@click.option("--note", default="", help="What it is for.")
@click.option("--unregistered", is_flag=True, help="Take a task that this app does not have, because other workers do.")
@json_option
@click.pass_context
def add(
    ctx: click.Context,
    /,
    name: str,
    task: str,
    tz: str | None,
    start: datetime | None,
    end: datetime | None,
    args: list[Any],
    kwargs: dict[str, Any],
    queue: str | None,
    unregistered: bool,
    as_json: bool,
    cron: str | None,
    every: float | None,
    at: datetime | None,
    rrule: str | None,
    **options: Any,
) -> None:
    """Store the entry NAME, which sends TASK, or change it if it exists.

    A moment without an offset (--at, --start, --end) is wall time in --tz, by default in the app's time zone.
    """
    wheel = wheel_of(ctx)
    if not unregistered:
        _refuse_unknown_task(wheel, task, ctx)
    begin, finish = in_zone(start, tz=tz, app=wheel.app), in_zone(end, tz=tz, app=wheel.app)
    timing = schedule_given(ctx, tz=tz, start=begin, cron=cron, every=every, at=at, rrule=rrule)
    signature = wheel.app.signature(task, args=args, kwargs=kwargs, options={"queue": queue} if queue else {})
    entry = wheel.schedule(name, signature, timing, start=begin, end=finish, **options)
    if as_json:
        write_json({"entry": redacted_entry(entry)})
    else:
        click.echo(_words(entry, wheel))


def _refuse_unknown_task(wheel: TimeWheel, task: str, ctx: click.Context) -> None:
    if task in wheel.app.tasks:
        return
    near = get_close_matches(task, wheel.app.tasks, n=1)
    advice = f"did you mean {near[0]!r}?" if near else "celery inspect registered lists those of the workers"
    raise click.UsageError(f"this app has no task {task!r}: {advice} (--unregistered takes it as it is)", ctx)


def _words(entry: Entry, wheel: TimeWheel) -> str:
    where = wheel.app.timezone
    following = f"next run {moment(entry.next_run, where)}" if entry.next_run else "it has no next run"
    return f"{entry.name}: {schedule_words(entry.schedule, where)}, {following}"
