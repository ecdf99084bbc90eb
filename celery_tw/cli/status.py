"""`tw status`: who leads, who stands by, and how the timetable stands."""

from collections.abc import Iterator

import click

from celery_tw.cli.output import json_option, write_facts, write_json, write_table
from celery_tw.cli.session import wheel_of
from celery_tw.cli.set_aside import SET_ASIDE_COLUMNS, set_aside_rows
from celery_tw.cli.words import aged
from celery_tw.integration.lanes.views import QueueView
from celery_tw.integration.status import Status

MEMBER_COLUMNS = ("scheduler", "host", "pid", "role", "clock ahead of Redis")


@click.command()
@json_option
@click.pass_context
def status(ctx: click.Context, as_json: bool) -> None:
    """Show who leads, who stands by, and how the timetable stands."""
    found = wheel_of(ctx).status()
    if as_json:
        write_json({"status": found})
        return
    write_facts(_facts(found))
    click.echo()
    rows = [(member.member_id, member.host, str(member.pid), _role(member.leads), f"{member.skew:.3f} s") for member in found.members]
    write_table(MEMBER_COLUMNS, rows, empty="No scheduler runs: start one with celery -A proj beat -S timewheel")
    if found.quarantined:
        click.echo()
        write_table(SET_ASIDE_COLUMNS, set_aside_rows(found.quarantined), empty="")


def _facts(found: Status) -> Iterator[tuple[str, str]]:
    yield "namespace", found.namespace
    yield "leader", _leader(found)
    yield "entries", f"{found.names}, of which {found.waiting} wait for a slot"
    yield "late", _late(found)
    yield "backlog", _backlog(found)
    yield "fire path", found.fire_path
    yield "outbox", _outbox(found)
    for queue in found.lanes:
        yield f"queue {queue.queue}", _queue(queue)
    yield "dead letters", _dead_letters(found)
    yield "dispatch", _held(found)


def _role(leads: bool) -> str:
    return "leader" if leads else "stand-by"


def _leader(found: Status) -> str:
    if found.leader is None:
        return "none"
    return f"{found.leader} (epoch {found.epoch}, lease runs for {found.lease_left or 0:.1f} s more)"


def _late(found: Status) -> str:
    return f"{found.late} entries, the oldest by {found.oldest_late:.1f} s" if found.late else "none"


def _backlog(found: Status) -> str:
    slots = sum(found.backlogs.values())
    return f"{slots} slots of {len(found.backlogs)} entries" if slots else "none"


def _outbox(found: Status) -> str:
    """Return what waits for a broker apart; '' where there is nothing to say."""
    parts = [(found.claimed, "wait for the broker"), (found.refused, "of them refused by it"), (found.buried, "buried")]
    return ", ".join(f"{number} {what}" for number, what in parts if number)


def _queue(queue: QueueView) -> str:
    """Return how a fair queue stands; it comes with a warning when tasks wait for it that nobody will take."""
    fair = "fair" if queue.fair else "no longer fair"
    workers = f"{queue.capacity} at once" if queue.workers else "no worker has said that it consumes it"
    waiting = ", ".join(f"{lane.lane} {lane.waiting}" for lane in queue.lanes if lane.waiting)
    starving = sum(lane.starving for lane in queue.lanes)
    parts = [fair, workers, f"{queue.waiting} wait ({waiting}), the oldest {aged(queue.oldest)}" if waiting else "none wait"]
    return ", ".join([*parts, f"{starving} too long"] if starving else parts)


def _dead_letters(found: Status) -> str:
    """Return how many there are, and what became of the others; '' where there never was one."""
    if not found.dead_letter_counts:
        return ""
    counts = ", ".join(f"{count} {what}" for what, count in found.dead_letter_counts.items())
    return f"{found.dead_letters}, {found.dead_letter_bytes:,} bytes ({counts}): see tw dlq list"


def _held(found: Status) -> str:
    if not found.held:
        return ""
    return f"held since Redis time stepped by {found.held_step or 0:.1f} s: see tw clock show"
