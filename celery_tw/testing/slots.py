"""Slots: which slots an entry should have, reckoned apart from the scheduler that is judged.

``Grid`` is enough for intervals. For anything else reckon the moments yourself and hand them in as ``Listed``; asking the scheduler's own
``preview`` for them would let it be its own judge.

An entry that is added, paused or removed while the test runs stands only for a time. Within ``edge_ms`` of such a moment a slot may or may
not have been fired: whether it fell before or after is decided by the store and not by the test's clock. The same goes for a call of which
no answer came: the moments between which it may have been carried out are an edge.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Protocol


class Slots(Protocol):
    """The slots of one entry: those that must be fired, and those that may."""

    @property
    def entry(self) -> str: ...

    def between(self, after_ms: int, until_ms: int) -> Iterator[int]:
        """Return the slots in (after, until] that must be fired, in order."""

    def has(self, slot_ms: int) -> bool:
        """Return whether that slot may be fired."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The slots of an interval: *anchor_ms* plus or minus whole periods, from *since_ms* to *until_ms* if these are given."""

    entry: str
    period_ms: int
    anchor_ms: int = 0
    since_ms: int | None = None
    until_ms: int | None = None
    edge_ms: int = 0

    def between(self, after_ms: int, until_ms: int) -> Iterator[int]:
        """Return the slots in (after, until] that must be fired, in order."""
        if self.since_ms is not None:
            after_ms = max(after_ms, self.since_ms + self.edge_ms)
        if self.until_ms is not None:
            until_ms = min(until_ms, self.until_ms - self.edge_ms)
        first_ms = after_ms - (after_ms - self.anchor_ms) % self.period_ms + self.period_ms
        return iter(range(first_ms, until_ms + 1, self.period_ms))

    def has(self, slot_ms: int) -> bool:
        """Return whether that slot may be fired."""
        if self.since_ms is not None and slot_ms < self.since_ms - self.edge_ms:
            return False
        if self.until_ms is not None and slot_ms > self.until_ms + self.edge_ms:
            return False
        return (slot_ms - self.anchor_ms) % self.period_ms == 0


@dataclass(frozen=True, slots=True)
class Listed:
    """Slots by name: *slots_ms* must be fired, *may_ms* may be."""

    entry: str
    slots_ms: Collection[int]
    may_ms: Collection[int] = ()

    def between(self, after_ms: int, until_ms: int) -> Iterator[int]:
        """Return the slots in (after, until] that must be fired, in order."""
        return iter(sorted(slot_ms for slot_ms in self.slots_ms if after_ms < slot_ms <= until_ms))

    def has(self, slot_ms: int) -> bool:
        """Return whether that slot may be fired."""
        return slot_ms in self.slots_ms or slot_ms in self.may_ms
