"""Upcoming: the entries in hand, taken from the wheel a little before they are due, so that their messages are ready in time."""

from heapq import heappop, heappush

LOOK_AHEAD_MS = 3000
"""How long before they are due entries are taken in hand."""

EARLY_WAIT_MS = 1
"""How long an entry waits for which Redis's own time had not come yet."""


class Upcoming:
    """A heap of (wake ms, due ms, id). *Wake* is when to act; *due* is what the timetable says, and what FIRE compares."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, int]] = []
        self._held: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._heap)

    def __contains__(self, entry_id: int) -> bool:
        return entry_id in self._held

    def holds(self, entry_id: int, due_ms: int) -> bool:
        """Return whether an entry is in hand, due at *due_ms* or before."""
        return self._held.get(entry_id, due_ms + 1) <= due_ms

    def overdue(self, now_ms: int) -> int:
        """Return how many entries in hand are due already."""
        return sum(due_ms <= now_ms for due_ms in self._held.values())

    def clear(self) -> None:
        self._heap.clear()
        self._held.clear()

    def add(self, entry_id: int, due_ms: int, *, wake_ms: int | None = None) -> None:
        """Hold an entry until *wake_ms*, which is its due ms unless given."""
        heappush(self._heap, (due_ms if wake_ms is None else wake_ms, due_ms, entry_id))
        self._held[entry_id] = due_ms

    def next_ms(self) -> int | None:
        """Return when the first entry has to be acted on, or None."""
        return self._heap[0][0] if self._heap else None

    def take(self, now_ms: int, *, limit: int) -> list[tuple[int, int]]:
        """Take up to *limit* pairs of due ms and id whose time has come, earliest first, each id once."""
        taken: dict[int, int] = {}
        while self._heap and len(taken) < limit and self._heap[0][0] <= now_ms:
            _, due_ms, entry_id = heappop(self._heap)
            self._held.pop(entry_id, None)
            taken[entry_id] = max(due_ms, taken.get(entry_id, 0))
        return [(due_ms, entry_id) for entry_id, due_ms in taken.items()]
