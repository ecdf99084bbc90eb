"""Upcoming: the entries in hand, taken from the wheel a little before they are due, so that their messages are ready in time."""

from heapq import heappop, heappush

from celery_tw.stores.redis.keys import is_one_time

LOOK_AHEAD_MS = 3000
"""How long before they are due entries are taken in hand."""

EARLY_WAIT_MS = 1
"""How long an entry waits for which Redis's own time had not come yet."""


class Upcoming:
    """Two heaps of (wake ms, due ms, id), of one-time tasks and of recurring entries.

    *Wake* is when to act; *due* is what the timetable says, and what FIRE compares. There are two so that a herd of one kind, all due at
    one instant, does not make the other wait until it has passed: while both have something due, each has half of what is taken.
    """

    def __init__(self) -> None:
        self._one_time: list[tuple[int, int, int]] = []
        self._recurring: list[tuple[int, int, int]] = []
        self._held: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._one_time) + len(self._recurring)

    def __contains__(self, entry_id: int) -> bool:
        return entry_id in self._held

    def holds(self, entry_id: int, due_ms: int) -> bool:
        """Return whether an entry is in hand, due at *due_ms* or before."""
        return self._held.get(entry_id, due_ms + 1) <= due_ms

    def overdue(self, now_ms: int) -> int:
        """Return how many entries in hand are due already."""
        return sum(due_ms <= now_ms for due_ms in self._held.values())

    def clear(self) -> None:
        self._one_time.clear()
        self._recurring.clear()
        self._held.clear()

    def add(self, entry_id: int, due_ms: int, *, wake_ms: int | None = None) -> None:
        """Hold an entry until *wake_ms*, which is its due ms unless given."""
        heap = self._one_time if is_one_time(entry_id) else self._recurring
        heappush(heap, (due_ms if wake_ms is None else wake_ms, due_ms, entry_id))
        self._held[entry_id] = due_ms

    def next_ms(self) -> int | None:
        """Return when the first entry has to be acted on, or None."""
        return min((heap[0][0] for heap in (self._one_time, self._recurring) if heap), default=None)

    def take(self, now_ms: int, *, limit: int) -> list[tuple[int, int]]:
        """Take up to *limit* pairs of due ms and id whose time has come, of each kind the earliest first, each id once."""
        taken: dict[int, int] = {}
        self._take(self._recurring, now_ms, taken, limit=limit // 2)
        self._take(self._one_time, now_ms, taken, limit=limit)
        self._take(self._recurring, now_ms, taken, limit=limit)
        return [(due_ms, entry_id) for entry_id, due_ms in taken.items()]

    def _take(self, heap: list[tuple[int, int, int]], now_ms: int, taken: dict[int, int], *, limit: int) -> None:
        while heap and len(taken) < limit and heap[0][0] <= now_ms:
            _, due_ms, entry_id = heappop(heap)
            self._held.pop(entry_id, None)
            taken[entry_id] = max(due_ms, taken.get(entry_id, 0))
