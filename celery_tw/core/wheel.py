"""Wheel: an alarm clock for a million ids.

Four rings of slots turn at four speeds. A slot of the first is a second, of the second a minute, of the third an
hour, of the fourth a day; together they reach 60 × 60 × 24 × 30 seconds, thirty days, ahead. An id waits in the
coarsest ring that its distance needs and comes down ring by ring as its time draws near. Below the first ring lies
the open second, from which, and only from which, ids go out. It is sorted when it opens. What is inserted into it
later or was due before it, and a second of too many ids to sort at once, goes into the *moments* instead: the ids by
their millisecond, and a heap of these.

Worked example: it is 12:00:00, and an id is due 2 h 15 m 30 s from now, at 14:15:30. It goes into the hours, slot 14.
When the clock reaches 13:00, slot 14 is the next hour and is brought down: the id goes into the minutes, slot 14:15.
At 14:14 it goes into the seconds, slot 14:15:30. At 14:15:30 that second opens and the id is handed out.

A slot is brought down one slot ahead of its time, so each of the lower rings has room for two turns (120, 120, 48
slots): a minute, an hour or a day that holds half a million ids is spread while the one before it passes, and what is
due on the hour waits for nobody. No call of ``advance`` moves more than ``MOVES_PER_ADVANCE`` ids; while there is
more to move or to hand out, ``next_ms`` answers with a moment already past, which means: call again. A second's own
ids are moved when it opens.

Costs: an id takes 16 bytes, a due time and the id side by side in two arrays of its slot, and nothing else is kept of
it. An insert is one append. Occupied slots are bits of an integer, so that a clock jumping over twenty empty days
looks at four integers.

Cancelling leaves a mark with the second in which the id is due; the id is dropped when its turn comes, and the marks
go when that second has passed. Inserting the same pair again takes the mark back, and the id comes out once.

The wheel is not the truth: it may be thrown away and filled again from the timetable at any time.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from itertools import pairwise

from celery_tw.errors import ImproperlyConfigured

SECOND_MS = 1000
MOVES_PER_ADVANCE = 4096

DROP, KEEP_ONE = False, True  # what a mark says of all copies of its pair


class Ring:
    """One ring of slots, each *unit_ms* long; a slot is two arrays, of ids and of due times."""

    __slots__ = ("dues", "ids", "occupied", "size", "unit_ms")

    def __init__(self, *, unit_ms: int, size: int) -> None:
        self.unit_ms = unit_ms
        self.size = size
        self.occupied = 0
        self.ids = [array("q") for _ in range(size)]
        self.dues = [array("q") for _ in range(size)]

    def holds(self, unit: int) -> bool:
        """Return whether there are ids in the slot of *unit*, counted from the epoch."""
        return bool(self.occupied >> unit % self.size & 1)

    def count(self, unit: int) -> int:
        """Return the number of ids in the slot of *unit*."""
        return len(self.ids[unit % self.size])

    def first_from(self, unit: int) -> int | None:
        """Return the first unit, from *unit* on, that holds ids; None when the ring is empty."""
        if not self.occupied:
            return None
        slot = unit % self.size
        ahead = self.occupied >> slot or self.occupied << self.size - slot
        return unit + (ahead & -ahead).bit_length() - 1

    def pull(self, unit: int, limit: int) -> Iterator[tuple[int, int]]:
        """Take up to *limit* pairs of id and due time out of the slot of *unit*."""
        slot = unit % self.size
        ids, dues = self.ids[slot][-limit:], self.dues[slot][-limit:]
        del self.ids[slot][-limit:], self.dues[slot][-limit:]
        if not self.ids[slot]:
            self.occupied &= ~(1 << slot)
        return zip(ids, dues, strict=True)


class Wheel:
    """Ids by due time, handed out when due.

    *now_ms* is where the clock stands. *levels* are the lengths of the rings: seconds to a minute, minutes to an hour,
    hours to a day, days in all. Ids are whole numbers of 64 bits.
    """

    def __init__(self, *, now_ms: int, levels: tuple[int, int, int, int] = (60, 60, 24, 30)) -> None:
        self._rings = _rings(levels)
        self._opened: list[tuple[int, int]] = []  # the pairs of the open second, sorted when it was opened
        self._moments: list[int] = []  # a heap of the due times in _ids_at
        self._ids_at: dict[int, array[int]] = {}
        self._marks: dict[int, dict[tuple[int, int], bool]] = {}  # second -> (due ms, id) -> DROP or KEEP_ONE
        self._marked: list[int] = []  # a heap of the seconds in _marks
        self._held = 0
        self._moves_left = self._drops_left = 0
        self.span_ms = self._rings[-1].unit_ms * levels[-1]
        self._open(now_ms // SECOND_MS)

    def __len__(self) -> int:
        """Return the number of ids held; a cancelled one counts until its second comes."""
        return self._held

    def insert(self, entry_id: int, due_ms: int) -> bool:
        """Hold *entry_id* until *due_ms*; return False, and do not hold it, when that lies beyond the span.

        What is due already comes out at the next ``advance``.
        """
        return self.insert_many([(entry_id, due_ms)]) == 1

    def insert_many(self, pairs: Iterable[tuple[int, int]]) -> int:
        """Insert pairs of id and due ms; return how many are held: all but those beyond the span."""
        return self._place(self._unmark(pairs) if self._marks else pairs)

    def cancel(self, entry_id: int, due_ms: int) -> None:
        """Let *entry_id* not come out at *due_ms*."""
        if due_ms < self._ends[-1]:
            second = max(due_ms // SECOND_MS, self._second)
            if second not in self._marks:
                self._marks[second] = {}
                heappush(self._marked, second)
            self._marks[second][due_ms, entry_id] = DROP

    def advance(self, now_ms: int, *, limit: int = 1000) -> list[tuple[int, int]]:
        """Take out up to *limit* pairs of due ms and id that are due at *now_ms*, oldest first.

        An id never comes out before its time. A call does a bounded amount of work: while ``next_ms()`` is not after
        *now_ms*, there is more to do. Ids of one millisecond come in no particular order. A *now_ms* older than that
        of the last call turns nothing back, and takes out what is due at it.
        """
        taken: list[tuple[int, int]] = []
        self._moves_left = self._drops_left = MOVES_PER_ADVANCE
        while True:
            until_ms = now_ms if self._bring_down() else min(now_ms, self._second * SECOND_MS - 1)
            self._take(taken, until_ms, limit)
            if self._opened or self._moments or not self._moves_left or not self._step(now_ms):
                break
        self._bring_down_ahead()
        return taken

    def next_ms(self) -> int | None:
        """Return a moment before which there is nothing to do, None when the wheel is empty.

        In the open second this is when the next id is due. Otherwise it is when a second has to be opened, or a
        longer slot to be brought down, and no id is due before it.
        """
        moments = self._moments[:1] + [due_ms for due_ms, _ in self._opened[:1]]
        for ahead, ring in zip((0, 1, 1, 1), self._rings, strict=True):
            unit = ring.first_from(self._second * SECOND_MS // ring.unit_ms)
            if unit is not None:
                moments.append((unit - ahead) * ring.unit_ms)
        return min(moments, default=None)

    def _open(self, second: int) -> None:
        """Let the clock stand at *second*; each ring now ends where its second turn ends, the last at the span."""
        now_ms = second * SECOND_MS
        span_end_ms = now_ms + self.span_ms
        second_turns = [(now_ms // longer.unit_ms + 2) * longer.unit_ms for longer in self._rings[1:]]
        self._second = second
        self._ends = [now_ms + SECOND_MS, *(min(end_ms, span_end_ms) for end_ms in second_turns), span_end_ms]
        while self._marked and self._marked[0] < second:
            del self._marks[heappop(self._marked)]

    def _step(self, now_ms: int) -> bool:
        """Move the clock to the next second that may hold ids, no further than *now_ms*; return whether it moved."""
        second = now_ms // SECOND_MS
        if second <= self._second:
            return False
        for ring in self._rings:
            unit = ring.first_from(self._second * SECOND_MS // ring.unit_ms)
            if unit is not None:
                second = min(second, unit * ring.unit_ms // SECOND_MS)
        self._open(second)
        return True

    def _bring_down(self) -> bool:
        """Bring down all slots in which the open second lies; return False when the moves did not suffice."""
        now_ms = self._second * SECOND_MS
        longer = all(self._empty(ring, now_ms // ring.unit_ms) for ring in reversed(self._rings[1:]))
        return longer and self._open_second()

    def _open_second(self) -> bool:
        """Sort the ids of the open second, or make moments of them when they are many or have company."""
        seconds = self._rings[0]
        if not self._opened and not self._moments and 0 < seconds.count(self._second) <= self._moves_left:
            pairs = seconds.pull(self._second, self._moves_left)
            self._opened = sorted((due_ms, entry_id) for entry_id, due_ms in pairs)
            self._moves_left -= len(self._opened)
        return self._empty(seconds, self._second)

    def _bring_down_ahead(self) -> None:
        for ring in reversed(self._rings[1:]):
            self._empty(ring, self._second * SECOND_MS // ring.unit_ms + 1)

    def _empty(self, ring: Ring, unit: int) -> bool:
        """Move the ids of a slot to shorter slots; return whether none is left."""
        while ring.holds(unit):
            if not self._moves_left:
                return False
            self._moves_left -= self._place_again(ring.pull(unit, self._moves_left))
        return True

    def _place_again(self, pairs: Iterable[tuple[int, int]]) -> int:
        """Place pairs that were held already; return how many."""
        moved = self._place(pairs)
        self._held -= moved
        return moved

    def _place(self, pairs: Iterable[tuple[int, int]]) -> int:
        """Append each pair to the slot where it belongs, or to its moment; return how many are not beyond the span."""
        placed = 0
        ends, rings, ids_at, moments = self._ends, self._rings, self._ids_at, self._moments
        try:
            for entry_id, due_ms in pairs:
                level = bisect_right(ends, due_ms)
                if level == 0:
                    if due_ms in ids_at:
                        ids_at[due_ms].append(entry_id)
                    else:
                        ids_at[due_ms] = array("q", (entry_id,))
                        heappush(moments, due_ms)
                elif level < len(ends):
                    ring = rings[level - 1]
                    slot = due_ms // ring.unit_ms % ring.size
                    ids = ring.ids[slot]
                    if not ids:
                        ring.occupied |= 1 << slot
                    ids.append(entry_id)
                    ring.dues[slot].append(due_ms)
                else:
                    continue
                placed += 1
        finally:
            self._held += placed
        return placed

    def _take(self, taken: list[tuple[int, int]], until_ms: int, limit: int) -> None:
        """Move pairs due at or before *until_ms* to *taken*, oldest first, until that has *limit*."""
        if self._opened and (self._moments or self._second in self._marks):
            self._place_again((entry_id, due_ms) for due_ms, entry_id in self._opened)
            self._opened = []
        if self._opened:
            self._take_opened(taken, until_ms, limit)
        else:
            self._take_moments(taken, until_ms, limit)

    def _take_opened(self, taken: list[tuple[int, int]], until_ms: int, limit: int) -> None:
        count = min(bisect_left(self._opened, (until_ms + 1,)), limit - len(taken))
        taken += self._opened[:count]
        del self._opened[:count]
        self._held -= count

    def _take_moments(self, taken: list[tuple[int, int]], until_ms: int, limit: int) -> None:
        moments = self._moments
        while moments and moments[0] <= until_ms and self._drops_left > 0 and (room := limit - len(taken)) > 0:
            due_ms = moments[0]
            ids = self._ids_at[due_ms]
            if len(ids) <= room:
                heappop(moments)
                del self._ids_at[due_ms]
            else:
                ids = ids[-room:]
                del self._ids_at[due_ms][-room:]
            self._held -= len(ids)
            if self._second in self._marks:
                ids = self._without_dropped(ids, due_ms)
            for entry_id in ids:
                taken.append((due_ms, entry_id))

    def _without_dropped(self, ids: "array[int]", due_ms: int) -> "array[int]":
        marks = self._marks[self._second]
        kept = array("q")
        for entry_id in ids:
            mark = marks.get((due_ms, entry_id))
            if mark is not DROP:
                kept.append(entry_id)
            if mark is KEEP_ONE:
                marks[due_ms, entry_id] = DROP
        self._drops_left -= len(ids) - len(kept)
        return kept

    def _unmark(self, pairs: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        for entry_id, due_ms in pairs:
            marks = self._marks.get(max(due_ms // SECOND_MS, self._second), {})
            if (due_ms, entry_id) in marks:
                marks[due_ms, entry_id] = KEEP_ONE
            yield entry_id, due_ms


def _rings(levels: tuple[int, int, int, int]) -> list[Ring]:
    if len(levels) != 4 or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in levels):
        raise ImproperlyConfigured(f"tw_wheel_levels takes four whole numbers of at least 1, not {levels!r}")
    units = [SECOND_MS]
    for length in levels:
        units.append(units[-1] * length)
    sizes = [2 * longer // unit for unit, longer in pairwise(units[:-1])]
    return [Ring(unit_ms=unit, size=size) for unit, size in zip(units[:-1], [*sizes, levels[-1] + 1], strict=True)]
