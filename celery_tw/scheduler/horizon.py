"""Horizon: how far the wheel reaches into the timetable.

Everything up to the *edge*, a pair of due ms and member, is in the wheel; what lies beyond is read in pages, nearest first, as time or
room allows. Three races are closed here:

* written while a page is read: news of it come later than the page, and are then compared with the edge that the page has moved;
* equal due times: the edge is a pair, so a page may end between two entries of one millisecond;
* too many: when news alone overfill the wheel, it is emptied and read again, so that it holds the nearest ones.
"""

from collections.abc import Callable

from celery_tw.core.wheel import Wheel
from celery_tw.stores.redis.dispatching import Dispatching
from celery_tw.stores.redis.keys import is_entry_id

PAGE = 1000
OVERFULL = 1.25
REFILL = 0.9
FOLLOW_MS = 60_000
"""A timetable read to its end is asked again after so long: what was beyond the span has come nearer."""


class Horizon:
    """The wheel, and what is known of the timetable beyond it; *on_bad_member* is told of what is no entry id."""

    on_bad_member: Callable[[bytes], None]

    def __init__(
        self,
        dispatching: Dispatching,
        *,
        levels: tuple[int, int, int, int],
        capacity: int,
    ) -> None:
        self.dispatching = dispatching
        self.levels = levels
        self.capacity = capacity
        self.reset(0)

    def reset(self, now_ms: int) -> None:
        """Forget everything and begin before the first entry."""
        self.wheel = Wheel(now_ms=now_ms, levels=self.levels)
        self.edge: tuple[int, str] = (0, "")
        self.at_end = False

    def __len__(self) -> int:
        return len(self.wheel)

    def extend(self, now_ms: int) -> bool:
        """Read at most one page; return whether there may be more to read at once."""
        until_ms = now_ms + self.wheel.span_ms - 1000
        if not self._has_room() or (self.at_end and until_ms - self.edge[0] < FOLLOW_MS):
            return False
        page = self.dispatching.page(cursor_ms=self.edge[0], cursor_member=self.edge[1], until_ms=until_ms, limit=PAGE)
        self.at_end = len(page) < PAGE
        self.edge = (until_ms, "") if self.at_end else (page[-1][0], page[-1][1].decode(errors="replace"))
        for due_ms, member in page:
            self._insert(member, due_ms)
        return not self.at_end

    def _has_room(self) -> bool:
        return len(self.wheel) < self.capacity * (REFILL if self.at_end else 1)

    def _insert(self, member: bytes, due_ms: int) -> None:
        if is_entry_id(member, due_ms):
            self.wheel.insert(int(member), due_ms)
        else:
            self.on_bad_member(member)

    def hear(self, entry_id: int, due_ms: int) -> None:
        """Take an entry that is new, or newly due, if it lies within the edge."""
        if (due_ms, str(entry_id)) <= self.edge:
            self.wheel.insert(entry_id, due_ms)

    def overfull(self) -> bool:
        """Return whether news have filled the wheel far beyond its capacity."""
        return len(self.wheel) > self.capacity * OVERFULL

    def take(self, until_ms: int, *, limit: int) -> list[tuple[int, int]]:
        """Take up to *limit* pairs of due ms and id due at or before *until_ms* out of the wheel, oldest first."""
        return self.wheel.advance(until_ms, limit=limit)

    def next_ms(self) -> int | None:
        """Return when the wheel has to be looked at again."""
        return self.wheel.next_ms()
