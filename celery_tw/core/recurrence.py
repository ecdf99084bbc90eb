"""Recurrence: a rule that says when the next slot is.

A recurrence answers one question, ``next_after``. The functions here answer the others, *what was the last slot*,
*how many were there*, *which*, by asking it again and again, but a bounded number of times: a leader that comes back
after a year must not walk thirty million seconds to find out what it missed.

Looking back, the window nearest to the end is tried first; an empty window doubles the next, an overfull one is
halved and tried again. So the last slot of a yearly rule costs some thirty questions, and so does that of a rule that
fires each second.

A recurrence that can calculate (``Countable``, an interval) is never stepped through.
"""

from typing import Protocol, runtime_checkable

LATEST_MS = 253_370_764_800_000 - 1
"""The last moment a slot may have, 9998-12-31T23:59:59.999Z: in no zone is it beyond what ``datetime`` can hold."""

FIRST_WINDOW_MS = 1000


class Recurrence(Protocol):
    """A rule of slots, in UTC milliseconds."""

    def next_after(self, after_ms: int) -> int | None:
        """Return the first slot strictly after *after_ms*; None when there is none."""


@runtime_checkable
class Countable(Recurrence, Protocol):
    """A recurrence that looks back and counts by arithmetic."""

    def last_until(self, until_ms: int) -> int | None:
        """Return the last slot at or before *until_ms*; None when there is none."""

    def count(self, after_ms: int, until_ms: int) -> int:
        """Return the number of slots in (*after_ms*, *until_ms*]."""


def slots_between(recurrence: Recurrence, after_ms: int, until_ms: int, *, limit: int) -> list[int]:
    """Return the slots in (*after_ms*, *until_ms*], oldest first, at most *limit*."""
    slots: list[int] = []
    slot_ms = recurrence.next_after(after_ms)
    while slot_ms is not None and slot_ms <= until_ms and len(slots) < limit:
        slots.append(slot_ms)
        slot_ms = recurrence.next_after(slot_ms)
    return slots


def count_between(recurrence: Recurrence, after_ms: int, until_ms: int, *, limit: int) -> int:
    """Return how many slots are in (*after_ms*, *until_ms*], counting no further than *limit*."""
    if isinstance(recurrence, Countable):
        return min(limit, recurrence.count(after_ms, until_ms))
    return len(slots_between(recurrence, after_ms, until_ms, limit=limit))


def last_between(recurrence: Recurrence, after_ms: int, until_ms: int) -> int | None:
    """Return the last slot in (*after_ms*, *until_ms*]; None when there is none."""
    if isinstance(recurrence, Countable):
        last_ms = recurrence.last_until(until_ms)
        return last_ms if last_ms is not None and last_ms > after_ms else None
    newest = newest_between(recurrence, after_ms, until_ms, limit=1)
    return newest[0] if newest else None


def newest_between(recurrence: Recurrence, after_ms: int, until_ms: int, *, limit: int) -> list[int]:
    """Return the *limit* newest slots in (*after_ms*, *until_ms*], oldest first."""
    newest: list[int] = []
    width_ms = FIRST_WINDOW_MS
    while after_ms < until_ms and len(newest) < limit:
        wanted = limit - len(newest)
        start_ms = max(after_ms, until_ms - width_ms)
        slots = slots_between(recurrence, start_ms, until_ms, limit=wanted + 1)
        if len(slots) > wanted:  # cannot happen in a window of 1 ms, so halving ends
            width_ms = (until_ms - start_ms) // 2
            continue
        newest = slots + newest
        until_ms = start_ms
        width_ms *= 2
    return newest
