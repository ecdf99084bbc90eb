"""Decision: what to do with one recurring entry at one moment. Pure.

The slot an entry waits for is the first one after its mark. It is due at the slot plus its jitter, which is a fixed share of the slot's
own hash, so every leader reckons the same moment.
"""

from dataclasses import dataclass, replace

from celery_tw.core.bounds import jitter_offset_ms
from celery_tw.core.definition import Definition
from celery_tw.core.misfire import Misfire, MissedRange, Plan, SkippedRange, plan
from celery_tw.core.overlap import NOTHING, Choice, Standing, choose, restrained
from celery_tw.core.recurrence import Recurrence


@dataclass(frozen=True, slots=True)
class Decision:
    """Fire *fire_ms* (if any), record *skipped*, open *backlog*, set the mark, and be due again at *next_due_ms*.

    *ends* tells that the entry leaves the timetable with this decision, *waits* that the backlog is one slot that waits for earlier fires
    to end. *supersedes* are the tasks of earlier fires that are to stop once this one is fired.
    """

    mark_ms: int
    next_due_ms: int | None
    fire_ms: int | None = None
    skipped: SkippedRange | None = None
    backlog: MissedRange | None = None
    ends: bool = False
    waits: bool = False
    supersedes: tuple[str, ...] = ()


def decide(
    definition: Definition,
    recurrence: Recurrence,
    *,
    entry_id: int,
    mark_ms: int,
    count: int,
    now_ms: int,
    before: Standing = NOTHING,
) -> Decision:
    """Return what to do at *now_ms* with the entry whose last decided slot is *mark_ms*, after *count* fires.

    *before* is what is left of those fires.
    """
    choice = choose(definition.overlap, before)
    once = definition.schedule.get("kind") == "once"
    planned = plan(
        recurrence,
        mark_ms=mark_ms,
        now_ms=now_ms,
        tolerance_ms=definition.tolerance_ms + definition.jitter_ms,
        misfire=Misfire.latest() if once and definition.misfire.policy == "catch_up" else definition.misfire,
    )
    due_slot_ms = planned.fire_ms
    planned = restrained(planned, definition.overlap, choice)
    fires = (planned.fire_ms is not None) + (planned.backlog.left if planned.backlog else 0)
    exhausted = definition.max_runs is not None and count + fires >= definition.max_runs
    next_due_ms = None if exhausted else due_ms(recurrence, planned.next_ms, entry_id=entry_id, jitter_ms=definition.jitter_ms)
    return Decision(
        mark_ms=planned.mark_ms,
        next_due_ms=next_due_ms,
        fire_ms=planned.fire_ms,
        skipped=planned.skipped,
        backlog=_within_runs(planned, definition.max_runs, count),
        ends=next_due_ms is None and once,
        waits=choice is Choice.BUFFER and due_slot_ms is not None,
        supersedes=before.tasks if choice is Choice.SUPERSEDE and planned.fire_ms is not None else (),
    )


def _within_runs(planned: Plan, max_runs: int | None, count: int) -> MissedRange | None:
    if planned.backlog is None or max_runs is None:
        return planned.backlog
    return replace(planned.backlog, left=min(planned.backlog.left, max_runs - count))


def due_ms(recurrence: Recurrence, slot_ms: int | None, *, entry_id: int, jitter_ms: int) -> int | None:
    """Return when *slot_ms* is due, jitter included."""
    if slot_ms is None or jitter_ms == 0:
        return slot_ms
    return slot_ms + jitter_offset_ms(entry_id, slot_ms, jitter_ms=jitter_ms, next_slot_ms=recurrence.next_after(slot_ms))


def first_due_ms(definition: Definition, recurrence: Recurrence, *, entry_id: int, mark_ms: int) -> int | None:
    """Return when the first slot after *mark_ms* is due, or None when there is none."""
    return due_ms(recurrence, recurrence.next_after(mark_ms), entry_id=entry_id, jitter_ms=definition.jitter_ms)
