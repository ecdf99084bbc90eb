"""Overlap: what becomes of a slot while an earlier fire of its entry is still there. Pure.

A fire is *there* from the moment it is handed to the broker until each of its tasks has ended: queued, running, or waiting for a retry.

allow
    The slot is fired. Nothing is counted.
skip
    The slot is not fired, and recorded as skipped.
buffer_one
    One slot waits, and is fired as soon as nothing is there any more. While one waits, later slots are recorded as skipped: it stands for
    them.
cancel_previous
    The slot is fired, and what is there is asked to stop.

The decision is taken once for each slot, when it is due, and after the misfire policy: of slots that were missed only the one that is
fired in their stead meets it. The slots of a backlog, which are all to run, wait for each other instead.
"""

from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Literal, get_args

from celery_tw.core.misfire import MissedRange, Plan, SkippedRange

Policy = Literal["allow", "skip", "buffer_one", "cancel_previous"]
POLICIES: tuple[str, ...] = get_args(Policy)

BUFFERED_RATE = 1.0
"""Slots a second of a range of one slot: it is never asked for a second."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What is left of an entry's fires: the ids of their *tasks* that have not ended, and whether a slot *waits* for their end."""

    tasks: tuple[str, ...] = ()
    waits: bool = False


NOTHING = Standing()


class Choice(Enum):
    """What to do with a slot that is due."""

    FIRE = auto()
    SKIP = auto()
    BUFFER = auto()
    SUPERSEDE = auto()


def choose(policy: Policy, before: Standing) -> Choice:
    """Return what *policy* makes of a slot that is due while *before* is what is left of earlier fires."""
    if policy == "buffer_one" and before.waits:
        return Choice.SKIP
    if policy == "allow" or not before.tasks:
        return Choice.FIRE
    return _WHILE_THERE[policy]


_WHILE_THERE = {"skip": Choice.SKIP, "buffer_one": Choice.BUFFER, "cancel_previous": Choice.SUPERSEDE}


def restrained(planned: Plan, policy: Policy, choice: Choice) -> Plan:
    """Return *planned* with the slot that it would fire skipped or buffered, as *choice* says."""
    if planned.fire_ms is None or choice in (Choice.FIRE, Choice.SUPERSEDE):
        return planned
    slot_ms = planned.fire_ms
    if choice is Choice.BUFFER:
        waiting = MissedRange(from_ms=slot_ms, to_ms=slot_ms, next_ms=slot_ms, left=1, rate=BUFFERED_RATE)
        return replace(planned, fire_ms=None, backlog=waiting)
    return replace(planned, fire_ms=None, skipped=_with_slot(planned.skipped, slot_ms, f"overlap:{policy}"))


def _with_slot(skipped: SkippedRange | None, slot_ms: int, reason: str) -> SkippedRange:
    """Return the range that *skipped* and the slot after it make together."""
    if skipped is None:
        return SkippedRange(from_ms=slot_ms, to_ms=slot_ms, count=1, reason=reason)
    return replace(skipped, to_ms=slot_ms, count=skipped.count + 1, reason=f"{skipped.reason}, {reason}")
