"""`tw schedule`: look at the entries of the timetable, and act on them. Adding one is in ``adding.py``."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import click

from celery_tw.cli.adding import add
from celery_tw.cli.moments import Moment, in_zone
from celery_tw.cli.output import json_option, write_facts, write_json, write_table, yes_option
from celery_tw.cli.redaction import redacted_entry, redacted_signature
from celery_tw.cli.session import wheel_of
from celery_tw.cli.timing import KINDS, schedule_given, timing_options
from celery_tw.cli.words import duration, misfire_words, moment, schedule_words, until
from celery_tw.clock import SystemClock
from celery_tw.errors import StaticEntry
from celery_tw.integration.entries.views import Entry, Slot
from celery_tw.integration.moments import from_ms
from celery_tw.integration.timewheel import TimeWheel

ENTRY_COLUMNS = ("name", "task", "schedule", "next run", "", "last run", "runs", "state")
SLOT_COLUMNS = ("slot", "status", "late by", "fired at", "task id", "detail")
NAMES_SHOWN = 5


@click.group()
def schedule() -> None:
    """List, change and look into the entries of the timetable."""


schedule.add_command(add)


@schedule.command("list")
@click.option("--prefix", default="", help="Only entries whose names begin so.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="About how many to show.")
@click.option("--cursor", type=click.IntRange(0), help="Where the last page said to go on.")
@json_option
@click.pass_context
def list_entries(ctx: click.Context, prefix: str, limit: int, cursor: int | None, as_json: bool) -> None:
    """List entries with their next and last runs.

    A page may be a little longer or shorter than --limit. Entries are sorted within a page, not from page to page.
    """
    wheel = wheel_of(ctx)
    page = wheel.entries(prefix=prefix, limit=limit, cursor=cursor)
    if as_json:
        write_json({"entries": [redacted_entry(entry) for entry in page.entries], "cursor": page.cursor})
        return
    now_ms = SystemClock().wall_ms()
    write_table(ENTRY_COLUMNS, [_row(entry, wheel, now_ms) for entry in page.entries], empty="No entries.")
    if page.cursor is not None:
        click.echo(f"There are more: --cursor {page.cursor}", err=True)


def _row(entry: Entry, wheel: TimeWheel, now_ms: int) -> tuple[str, ...]:
    where = wheel.app.timezone
    return (
        entry.name,
        entry.task,
        schedule_words(entry.schedule, where) if entry.schedule else "",
        moment(entry.next_run, where),
        until(entry.next_run, now_ms),
        moment(entry.last_run, where),
        str(entry.total_runs),
        state(entry),
    )


def state(entry: Entry) -> str:
    """Return the state of an entry in words, with the note or error that explains it."""
    if entry.error:
        return f"error: {entry.error}"
    if entry.paused:
        return f"paused: {entry.pause_note}" if entry.pause_note else "paused"
    return "active" if entry.next_run else "finished"


@schedule.command()
@click.argument("name")
@json_option
@click.pass_context
def show(ctx: click.Context, name: str, as_json: bool) -> None:
    """Show everything about one entry; what looks secret in its arguments is hidden."""
    wheel = wheel_of(ctx)
    entry = wheel.entry(name)
    if as_json:
        write_json({"entry": redacted_entry(entry)})
    else:
        write_facts(_facts(entry, wheel))


def _facts(entry: Entry, wheel: TimeWheel) -> Iterator[tuple[str, str]]:
    where, now_ms = wheel.app.timezone, SystemClock().wall_ms()
    yield "name", entry.name
    yield "state", state(entry)
    yield "task", entry.task
    yield from _arguments(entry)
    yield "schedule", schedule_words(entry.schedule, where) if entry.schedule else ""
    yield "next run", f"{moment(entry.next_run, where)} {until(entry.next_run, now_ms)}".strip()
    yield "last run", f"{moment(entry.last_run, where)} {until(entry.last_run, now_ms)}".strip()
    yield "runs", str(entry.total_runs)
    yield "misfire", misfire_words(entry.misfire)
    yield from _options(entry, wheel)
    yield "note", entry.note
    yield "kept in", "beat_schedule" if entry.source == "settings" else "the timetable"
    yield "id", str(entry.entry_id)


def _arguments(entry: Entry) -> Iterator[tuple[str, str]]:
    signature = redacted_signature(entry)
    for part in ("args", "kwargs", "options"):
        yield part, str(signature[part]) if signature.get(part) else ""


def _options(entry: Entry, wheel: TimeWheel) -> Iterator[tuple[str, str]]:
    options = dict(entry.options or {})
    for word in ("tolerance", "jitter"):
        yield word, duration(options[f"{word}_ms"]) if options.get(f"{word}_ms") else ""
    for word in ("start", "end"):
        given_ms = options.get(f"{word}_ms")
        yield word, "" if given_ms is None else moment(from_ms(given_ms), wheel.app.timezone)
    yield "max runs", str(options.get("max_runs") or "")
    yield "delivery", str(options.get("delivery") or "")


@schedule.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--note", default="", help="Why, for whoever looks next.")
@json_option
@click.pass_context
def pause(ctx: click.Context, names: tuple[str, ...], note: str, as_json: bool) -> None:
    """Keep entries from firing until they are resumed."""
    wheel = wheel_of(ctx)
    _existing(wheel, names)
    _write_changed([wheel.pause(name, note=note) for name in names], wheel, as_json=as_json)


@schedule.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@json_option
@click.pass_context
def resume(ctx: click.Context, names: tuple[str, ...], as_json: bool) -> None:
    """Let entries fire again from now on; what passed meanwhile is recorded as skipped."""
    wheel = wheel_of(ctx)
    _existing(wheel, names)
    _write_changed([wheel.resume(name) for name in names], wheel, as_json=as_json)


def _existing(wheel: TimeWheel, names: tuple[str, ...]) -> list[Entry]:
    """Return all entries, or raise for the first unknown one before any is changed."""
    return [wheel.entry(name) for name in dict.fromkeys(names)]


def _write_changed(entries: list[Entry], wheel: TimeWheel, *, as_json: bool) -> None:
    if as_json:
        write_json({"entries": [redacted_entry(entry) for entry in entries]})
        return
    for entry in entries:
        following = f", next run {moment(entry.next_run, wheel.app.timezone)}" if entry.next_run else ""
        click.echo(f"{entry.name}: {state(entry)}{following}")


@schedule.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@yes_option
@json_option
@click.pass_context
def remove(ctx: click.Context, names: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Remove entries; those of beat_schedule are refused, as they would come back."""
    wheel = wheel_of(ctx)
    entries = _existing(wheel, names)
    for entry in entries:
        if entry.source == "settings":
            raise StaticEntry(entry.name)
    if not yes:
        click.confirm(f"Remove {_counted(entries)}?", abort=True, err=True)
    for entry in entries:
        wheel.remove(entry.name)
    if as_json:
        write_json({"removed": [entry.name for entry in entries]})
    else:
        click.echo(f"Removed {_counted(entries)}.")


def _counted(entries: list[Entry]) -> str:
    listed = ", ".join(entry.name for entry in entries[:NAMES_SHOWN])
    more = f" and {len(entries) - NAMES_SHOWN} more" if len(entries) > NAMES_SHOWN else ""
    return f"{len(entries)} {'entry' if len(entries) == 1 else 'entries'} ({listed}{more})"


@schedule.command()
@click.argument("name")
@json_option
@click.pass_context
def trigger(ctx: click.Context, name: str, as_json: bool) -> None:
    """Send an entry's task now, besides its slots; a one-time task goes out now instead of later."""
    task_id = wheel_of(ctx).trigger(name).id
    if as_json:
        write_json({"name": name, "task_id": task_id})
    else:
        click.echo(f"Sent {name} as task {task_id}.")


@schedule.command()
@click.argument("name", required=False)
@timing_options
@click.option("-n", "--number", type=click.IntRange(1, 1000), default=10, show_default=True, help="How many slots.")
@click.option("--after", type=Moment(), help="Slots after this moment; now.")
@json_option
@click.pass_context
def preview(
    ctx: click.Context,
    /,
    name: str | None,
    tz: str | None,
    start: datetime | None,
    number: int,
    after: datetime | None,
    as_json: bool,
    **kinds: Any,
) -> None:
    """Show the next slots of an entry, or of a schedule that is not stored.

    --tz is also the zone in which the slots are shown.
    """
    wheel = wheel_of(ctx)
    what = _previewed(ctx, name, tz=tz, start=in_zone(start, tz=tz, app=wheel.app), **kinds)
    slots = wheel.preview(what, n=number, tz=tz, after=in_zone(after, tz=tz, app=wheel.app))
    if as_json:
        write_json({"slots": slots})
        return
    for slot in slots:
        click.echo(moment(slot, slot.tzinfo or wheel.app.timezone))
    if not slots:
        click.echo("No further slots.")


def _previewed(ctx: click.Context, name: str | None, **options: Any) -> Any:
    if name is None:
        return schedule_given(ctx, **options)
    if any(options[kind] is not None for kind in KINDS):
        raise click.UsageError("give the name of an entry or a schedule, not both", ctx)
    return name


@schedule.command()
@click.argument("name")
@click.option("--limit", type=click.IntRange(1, 10_000), default=60, show_default=True, help="How many to show.")
@json_option
@click.pass_context
def history(ctx: click.Context, name: str, limit: int, as_json: bool) -> None:
    """Show the last fires and skipped slots of an entry, newest first."""
    wheel = wheel_of(ctx)
    slots = wheel.history(name, limit=limit)
    if as_json:
        write_json({"name": name, "slots": slots})
    else:
        write_table(SLOT_COLUMNS, [_slot_row(slot, wheel) for slot in slots], empty="Nothing has been fired or skipped yet.")


def _slot_row(slot: Slot, wheel: TimeWheel) -> tuple[str, ...]:
    where = wheel.app.timezone
    late = "" if slot.lateness is None else f"{slot.lateness:.3f} s"
    return (moment(slot.slot, where), slot.status, late, moment(slot.fired_at, where), slot.task_id or "", _detail(slot, wheel))


def _detail(slot: Slot, wheel: TimeWheel) -> str:
    if slot.status == "skipped":
        count = f"{'at least ' if slot.at_least else ''}{slot.count} slots up to {moment(slot.until, wheel.app.timezone)}"
        return f"{slot.reason}: {count}" if slot.count > 1 or slot.at_least else slot.reason
    return f"backfill {slot.generation}" if slot.generation else ""


@schedule.command()
@click.argument("name")
@click.option("--from", "start", type=Moment(), required=True, help="First moment; without an offset it is wall time in --tz.")
@click.option("--to", "end", type=Moment(), required=True, help="Last moment; slots to come are left out.")
@click.option("--tz", metavar="ZONE", help="Time zone of --from and --to; the app's.")
@click.option("--rate", type=float, help="Slots a second; tw_catch_up_rate.")
@click.option("--dry-run", is_flag=True, help="Only count.")
@yes_option
@json_option
@click.pass_context
def backfill(
    ctx: click.Context,
    name: str,
    start: datetime,
    end: datetime,
    tz: str | None,
    rate: float | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Fire the past slots of an entry again, oldest first."""
    wheel = wheel_of(ctx)
    bounds = in_zone(start, tz=tz, app=wheel.app), in_zone(end, tz=tz, app=wheel.app)
    found = wheel.backfill(name, *bounds, rate=rate, dry_run=True)  # type: ignore[arg-type]  # both are given
    where = wheel.app.timezone
    words = f"{found.slots} slots of {name}"
    if found.slots:
        words += f", {moment(found.first, where)} to {moment(found.last, where)}"
    if found.slots and not dry_run:
        if not yes:
            click.confirm(f"Fire {words}, again?", abort=True, err=True)
        found = wheel.backfill(name, *bounds, rate=rate)  # type: ignore[arg-type]
    if as_json:
        write_json({"name": name, "dry_run": dry_run, "backfill": found})
    else:
        click.echo(f"{'Would fire' if dry_run else 'The leader fires' if found.slots else 'There are'} {words}.")
