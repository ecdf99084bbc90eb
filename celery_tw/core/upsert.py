"""Upsert: what storing a definition does to an entry that may exist already. Pure.

An equal definition changes nothing. Pause, counters and the mark are state and survive a change of what the entry *sends*. A change of
*when* it is due starts over from now: slots that were still open under the old rule are recorded as skipped, never fired by the new one.
The anchor of an interval moves only when its period does.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from celery_tw.core.definition import Definition
from celery_tw.core.misfire import COUNT_LIMIT, SkippedRange
from celery_tw.core.recurrence import Recurrence, count_between, last_between


@dataclass(frozen=True, slots=True)
class Standing:
    """The state in which an entry is found."""

    definition: Definition | None
    mark_ms: int
    removed: bool


@dataclass(frozen=True, slots=True)
class Upsert:
    """The state in which it is left: the mark, and the slots that nobody will fire any more.

    *timed* is False when only what the entry sends has changed: mark and due time are then left as they stand.
    """

    mark_ms: int
    skipped: SkippedRange | None = None
    timed: bool = True


def keep_anchor(definition: Definition, standing: Standing | None) -> Definition:
    """Return *definition* on the grid that its entry has already, when the period is the same."""
    if standing is None or standing.definition is None:
        return definition
    old, new = standing.definition.schedule, definition.schedule
    if _same_interval(old, new):
        return replace(definition, schedule={**new, "anchor_ms": old["anchor_ms"]})
    return definition


def _same_interval(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return bool(old.get("kind") == new["kind"] == "interval" and old.get("period_ms") == new["period_ms"])


def upsert(definition: Definition, standing: Standing | None, *, old_recurrence: Recurrence | None, now_ms: int) -> Upsert:
    """Return what storing *definition* at *now_ms* does; *old_recurrence* is that of the standing definition, if it can be read."""
    if standing is None:
        return Upsert(now_ms)
    if standing.removed or standing.definition is None:
        return Upsert(max(standing.mark_ms, now_ms))
    if timing(definition) == timing(standing.definition):
        same = (definition.jitter_ms, definition.max_runs) == (standing.definition.jitter_ms, standing.definition.max_runs)
        return Upsert(standing.mark_ms, timed=not same)
    skipped = undecided(old_recurrence, mark_ms=standing.mark_ms, now_ms=now_ms, reason="schedule changed")
    return Upsert(max(standing.mark_ms, now_ms), skipped)


def timing(definition: Definition) -> tuple[Any, ...]:
    """Return all that decides when slots are."""
    return dict(definition.schedule), definition.start_ms, definition.end_ms


def undecided(recurrence: Recurrence | None, *, mark_ms: int, now_ms: int, reason: str) -> SkippedRange | None:
    """Return the slots in (mark, now] as a range to be recorded, or None when there are none."""
    first_ms = recurrence.next_after(mark_ms) if recurrence else None
    if recurrence is None or first_ms is None or first_ms > now_ms:
        return None
    count = count_between(recurrence, mark_ms, now_ms, limit=COUNT_LIMIT)
    last_ms = last_between(recurrence, mark_ms, now_ms) or first_ms
    return SkippedRange(from_ms=first_ms, to_ms=last_ms, count=count, reason=reason, at_least=count >= COUNT_LIMIT)
