"""Interval: a slot every so many milliseconds, on a grid.

The grid is anchored: slots are ``anchor + k × period`` for every whole *k*, wherever the process starts and however
late a slot was fired, so that an interval never drifts. Worked example: a period of 30 s anchored at 12:00:10 has
slots at 12:00:10, 12:00:40, …; asked at 12:00:41, it answers 12:01:10.
"""

from dataclasses import dataclass

from celery_tw.core.recurrence import LATEST_MS
from celery_tw.errors import InvalidSchedule

SHORTEST_PERIOD_MS = 10


@dataclass(frozen=True, slots=True)
class Interval:
    """A slot every *period_ms*, on the grid through *anchor_ms*.

    Raises ``InvalidSchedule`` for a period under 10 ms, and for a period or an anchor beyond the year 9998.
    """

    period_ms: int
    anchor_ms: int = 0

    def __post_init__(self) -> None:
        _refuse_unless_whole("period_ms", self.period_ms)
        _refuse_unless_whole("anchor_ms", self.anchor_ms)
        if not SHORTEST_PERIOD_MS <= self.period_ms <= LATEST_MS:
            raise InvalidSchedule(f"an interval takes a period from {SHORTEST_PERIOD_MS} ms to {LATEST_MS} ms, not {self.period_ms} ms")
        if abs(self.anchor_ms) > LATEST_MS:
            raise InvalidSchedule(f"an interval takes an anchor before the year 9999, not {self.anchor_ms} ms")

    def next_after(self, after_ms: int) -> int | None:
        """Return the first slot strictly after *after_ms*; None beyond the year 9998."""
        slot_ms = after_ms + self.period_ms - (after_ms - self.anchor_ms) % self.period_ms
        return slot_ms if slot_ms <= LATEST_MS else None

    def last_until(self, until_ms: int) -> int:
        """Return the last slot at or before *until_ms*."""
        until_ms = min(until_ms, LATEST_MS)
        return until_ms - (until_ms - self.anchor_ms) % self.period_ms

    def count(self, after_ms: int, until_ms: int) -> int:
        """Return the number of slots in (*after_ms*, *until_ms*]."""
        if until_ms <= after_ms:
            return 0
        return (self.last_until(until_ms) - self.last_until(after_ms)) // self.period_ms


def _refuse_unless_whole(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidSchedule(f"an interval takes {name} in whole milliseconds, not {value!r}")
