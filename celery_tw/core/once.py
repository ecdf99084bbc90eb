"""Once: a single slot.

What is due once is still a recurrence, so that a one-time entry goes the same way as all others: before its moment it
has a next slot, after it none.
"""

from dataclasses import dataclass

from celery_tw.core.recurrence import LATEST_MS
from celery_tw.errors import InvalidSchedule


@dataclass(frozen=True, slots=True)
class Once:
    """One slot at *at_ms*, UTC milliseconds. Raises ``InvalidSchedule`` for a moment beyond the year 9998."""

    at_ms: int

    def __post_init__(self) -> None:
        if not isinstance(self.at_ms, int) or isinstance(self.at_ms, bool):
            raise InvalidSchedule(f"a one-time schedule takes at_ms in whole milliseconds, not {self.at_ms!r}")
        if abs(self.at_ms) > LATEST_MS:
            raise InvalidSchedule(f"a one-time schedule takes a moment before the year 9999, not {self.at_ms} ms")

    def next_after(self, after_ms: int) -> int | None:
        """Return the slot while it lies after *after_ms*, then None."""
        return self.at_ms if self.at_ms > after_ms else None

    def last_until(self, until_ms: int) -> int | None:
        """Return the slot once *until_ms* has reached it."""
        return self.at_ms if self.at_ms <= until_ms else None

    def count(self, after_ms: int, until_ms: int) -> int:
        """Return 1 when the slot lies in (*after_ms*, *until_ms*], else 0."""
        return int(after_ms < self.at_ms <= until_ms)
