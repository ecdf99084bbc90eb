"""Bounds: what an entry's author puts around its recurrence, a start, an end, and a jitter.

``Bounded`` is a recurrence within a recurrence: it leaves out the slots before the start and after the end, and moves
none.

Jitter moves no slot either: a slot keeps its nominal time, in its id as in its history, and only its message goes out
a little later. How much later is drawn from a hash of entry and slot, so that every process, and a second leader
after the first, draws the same; and a slot never goes out at or after the nominal time of the next.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b

from celery_tw.core.recurrence import Recurrence
from celery_tw.errors import InvalidSchedule


@dataclass(frozen=True, slots=True)
class Bounded:
    """The slots of *recurrence* from *start_ms* to *end_ms*, both included; None leaves that side open.

    Raises ``InvalidSchedule`` when the end lies before the start.
    """

    recurrence: Recurrence
    start_ms: int | None = None
    end_ms: int | None = None

    def __post_init__(self) -> None:
        if self.start_ms is not None and self.end_ms is not None and self.end_ms < self.start_ms:
            raise InvalidSchedule(f"an entry ends after it starts, not at {_shown(self.end_ms)}, before {_shown(self.start_ms)}")

    def next_after(self, after_ms: int) -> int | None:
        """Return the first slot within the bounds and strictly after *after_ms*; None when there is none."""
        if self.start_ms is not None:
            after_ms = max(after_ms, self.start_ms - 1)
        if self.end_ms is not None and after_ms >= self.end_ms:
            return None
        slot_ms = self.recurrence.next_after(after_ms)
        if slot_ms is None or (self.end_ms is not None and slot_ms > self.end_ms):
            return None
        return slot_ms


def _shown(at_ms: int) -> str:
    return (datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=at_ms)).isoformat(sep=" ")


def jitter_offset_ms(entry_id: int, slot_ms: int, *, jitter_ms: int, next_slot_ms: int | None) -> int:
    """Return how long after *slot_ms* its message goes out: 0 to *jitter_ms*, and before *next_slot_ms*.

    The same entry and slot give the same offset everywhere.
    """
    longest_ms = jitter_ms
    if next_slot_ms is not None:
        longest_ms = min(longest_ms, next_slot_ms - slot_ms - 1)
    if longest_ms <= 0:
        return 0
    digest = blake2b(b"%d:%d" % (entry_id, slot_ms), digest_size=8).digest()
    return int.from_bytes(digest, "big") % (longest_ms + 1)
