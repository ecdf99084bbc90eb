"""Banner: what ``celery beat`` prints about the timetable when it starts. It asks Redis once, briefly, and may find it away."""

from datetime import datetime
from heapq import nsmallest
from typing import Any

from celery_tw.errors import CeleryTWError
from celery_tw.integration import broker
from celery_tw.integration.connected import Connected
from celery_tw.integration.moments import from_ms
from celery_tw.integration.publishing.choice import fire_path
from celery_tw.stores.redis.election import Election
from celery_tw.stores.redis.timetable import Timetable

NEXT = 3
PATIENCE_S = 0.3


def banner(app: Any) -> str:
    """Return the lines between Celery's own; never raises for a Redis that is away."""
    parts = Connected(app)
    client = broker.connect(app, timeout_s=PATIENCE_S)
    lines = [("namespace", parts.settings.namespace), ("time zone", str(app.timezone)), ("fire path", fire_path(app))]
    try:
        lines += _timetable_lines(app, parts, Timetable(client, parts.keys))
        lines.append(("leader", _leader_line(Election(client, parts.keys))))
    except CeleryTWError as error:
        lines.append(("redis", f"does not answer yet, waiting for it ({error})"))
    finally:
        client.close()
    return "\n".join(f"    . {word} -> {text}" for word, text in lines)


def _timetable_lines(app: Any, parts: Connected, timetable: Timetable) -> list[tuple[str, str]]:
    names, _ = timetable.count()
    lines = [("entries", f"{names} in the timetable, {len(parts.statics)} in the settings")]
    stored = [(due_ms, _name(timetable, entry_id)) for due_ms, entry_id in timetable.nearest(NEXT)]
    for due_ms, name in stored or _first_of_settings(app, parts, timetable.now_ms()):
        moment: datetime = from_ms(due_ms).astimezone(app.timezone)
        lines.append(("next", f"{moment:%Y-%m-%d %H:%M:%S %Z}  {name}"))
    return lines


def _first_of_settings(app: Any, parts: Connected, now_ms: int) -> list[tuple[int, str]]:
    """Return what a timetable that has nothing yet will fire first once a leader has read the settings into it.

    A schedule class of the user's own is not asked: the banner must not fail.
    """
    slots = []
    for static in parts.statics.values():
        signature, options = app.signature(static.task), static.wheel_options
        try:
            draft = parts.drafter.draft(static.name, signature, static.schedule, now_ms=now_ms, source="settings", **options)
            slot_ms = None if draft.definition.local else draft.recurrence.next_after(now_ms)
        except CeleryTWError:  # the leader says what is wrong with it
            continue
        if slot_ms is not None:
            slots.append((slot_ms, static.name))
    return nsmallest(NEXT, slots)


def _name(timetable: Timetable, entry_id: int) -> str:
    return timetable.name_of(entry_id) or f"entry {entry_id}"


def _leader_line(election: Election) -> str:
    leader, lease_left_ms = election.leader()
    if not leader:
        return "nobody yet: this process will try"
    return f"{leader.get('owner')} leads, {max(0, lease_left_ms) / 1000:.1f} s of its lease left; this process stands by"
