"""Estimated: a recurrence that asks a Celery schedule, one slot at a time.

Celery's own contract for a schedule is ``remaining_estimate(last_run_at)``: how long from *now* until it is due
again, *now* being the schedule's ``nowfun``. Asked with both set to the planned time, the answer is the distance to
the next slot; so any schedule class becomes a recurrence, solar events among them.

Two things are mended on the way. A slot must lie after the time asked for, but an astronomer's answer from the very
moment of an event is sometimes that event again, a few ms later or earlier: what lies within ``same_ms`` of the
question counts as the question itself, and the search goes on from a little later, in growing steps. And a class that
never gets past the question is an error, not an endless loop.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from threading import Lock
from typing import Any

from celery_tw.core.recurrence import LATEST_MS
from celery_tw.errors import InvalidSchedule
from celery_tw.integration.moments import from_ms

STEPS_MS = (0, 1, 1000, 60_000, 3_600_000, 86_400_000)
"""How far after the question the search starts, one try after the other."""


class Estimated:
    """The slots of a live *schedule*, whole multiples of *round_ms* apart from the epoch, no two within *same_ms*."""

    def __init__(self, schedule: Any, *, round_ms: int = 1, same_ms: int = 0) -> None:
        self._schedule = schedule
        self._round_ms = round_ms
        self._same_ms = same_ms
        self._lock = Lock()

    def next_after(self, after_ms: int) -> int | None:
        """Return the first slot after *after_ms*, or None when the schedule answers None or goes beyond the year 9998.

        Raises InvalidSchedule when the schedule does not get past *after_ms*.
        """
        for step_ms in STEPS_MS:
            slot_ms = self._ask(after_ms + step_ms)
            if slot_ms is None or slot_ms > after_ms + self._same_ms:
                return slot_ms
        raise InvalidSchedule(
            f"schedule {self._schedule!r} gave no slot after {from_ms(after_ms)}: its remaining_estimate() has to reach beyond last_run_at"
        )

    def _ask(self, planned_ms: int) -> int | None:
        if planned_ms > LATEST_MS:
            return None
        planned = from_ms(planned_ms).astimezone(self._schedule.tz)  # beat gives app.now(), which is local
        with self._lock, _now_is(self._schedule, planned):
            remaining = self._schedule.remaining_estimate(planned)
        if remaining is None:
            return None
        slot_ms = planned_ms + _ms(remaining)
        slot_ms -= slot_ms % self._round_ms
        return slot_ms if slot_ms <= LATEST_MS else None


@contextmanager
def _now_is(schedule: Any, planned: datetime) -> Iterator[None]:
    """Let *schedule* believe that it is *planned*."""
    nowfun = schedule.nowfun
    schedule.nowfun = lambda: planned
    try:
        yield
    finally:
        schedule.nowfun = nowfun


def _ms(remaining: timedelta | float) -> int:
    if not isinstance(remaining, timedelta):
        remaining = timedelta(seconds=remaining)
    return remaining // timedelta(milliseconds=1)


def solar_slots(schedule: Any) -> Estimated:
    """Return the events of a live ``solar`` schedule, to the second."""
    return Estimated(schedule, round_ms=1000, same_ms=2000)
