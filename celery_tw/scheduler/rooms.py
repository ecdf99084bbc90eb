"""Rooms: how many more messages each fair queue may be given, between the thread that measures queues and the one that admits.

A queue is measured while messages are on their way to it, so what was given since the measurement began counts as not seen by it. That may
count a message twice, never not at all: a queue is rather given too little until it is measured again, some milliseconds later.
"""

from dataclasses import dataclass, replace
from threading import Lock


@dataclass(frozen=True, slots=True)
class Room:
    """One queue: it may hold *target* messages, held *length* when *given* messages had been given to it, and *waiting* wait."""

    target: int = 0
    length: int = 0
    given: int = 0
    waiting: int = 0


class Rooms:
    """The rooms of all queues, for one term at a time."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._rooms: dict[str, Room] = {}
        self._given: dict[str, int] = {}
        self._epoch: int | None = None

    def begin(self, epoch: int) -> None:
        """Forget what was measured in another term."""
        with self._lock:
            if epoch != self._epoch:
                self._rooms, self._epoch = {}, epoch

    def given(self, queue: str) -> int:
        """Return how many messages were given to *queue* by this process."""
        return self._given.get(queue, 0)

    def measured(self, queue: str, *, target: int, length: int, given: int, waiting: int) -> None:
        """Take a measurement that began when *given* messages had been given."""
        with self._lock:
            self._rooms[queue] = Room(target, length, given, waiting)

    def unmeasured(self, queues: set[str]) -> None:
        """Give nothing to *queues* until they are measured."""
        with self._lock:
            for queue in queues:
                self._rooms.pop(queue, None)

    def open(self, epoch: int) -> dict[str, int]:
        """Return the room of each queue that has some, and something that waits for it."""
        with self._lock:
            if epoch != self._epoch:
                return {}
            left = {queue: self._left(queue, room) for queue, room in self._rooms.items() if room.waiting > 0}
        return {queue: room for queue, room in left.items() if room > 0}

    def _left(self, queue: str, room: Room) -> int:
        return room.target - room.length - (self.given(queue) - room.given)

    def wanted(self) -> bool:
        """Return whether something waits for a queue."""
        with self._lock:
            return any(room.waiting > 0 for room in self._rooms.values())

    def give(self, queue: str, count: int) -> None:
        """Count *count* messages that have been given to *queue*, or may have been."""
        with self._lock:
            self._given[queue] = self.given(queue) + count
            if queue in self._rooms:
                room = self._rooms[queue]
                self._rooms[queue] = replace(room, waiting=max(room.waiting - count, 0))

    def nothing_waits(self, queue: str) -> None:
        """Take note that the lanes of *queue* were found empty."""
        self._wait(queue, 0)

    def something_waits(self, queue: str) -> bool:
        """Take note that a message waits for *queue*; return whether the queue has been measured."""
        return self._wait(queue, 1)

    def used_up(self, queue: str) -> None:
        """Take note that a producer was the first that had to wait: others have used the same room, so it counts no more."""
        with self._lock:
            if queue in self._rooms and self._rooms[queue].waiting == 0:
                del self._rooms[queue]

    def _wait(self, queue: str, waiting: int) -> bool:
        with self._lock:
            room = self._rooms.get(queue)
            if room is not None and (waiting == 0 or room.waiting == 0):
                self._rooms[queue] = replace(room, waiting=waiting)
            return room is not None
