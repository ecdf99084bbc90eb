"""Slots: the checker. Given the slots that there should be and what has run, it says what is wrong.

It is a pure function of values and does not ask the system under test. Each fire carries its entry and its slot, so nothing is guessed:

===================  ===========================================================================================
missing              a slot of the window for which nothing ran and no skip is recorded
doubled              a slot for which something ran more than once, in the window or not
early                something ran before its slot
unknown              something ran for no slot, for a slot off its entry's grid, or for an entry that does not exist
contradicted         a slot that is recorded as skipped, and ran
===================  ===========================================================================================

The window is (from_ms, until_ms]: a slot outside may or may not have run.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Grid:
    """The slots of one interval entry: *anchor_ms* plus or minus whole periods."""

    entry: str
    period_ms: int
    anchor_ms: int = 0

    def between(self, after_ms: int, until_ms: int) -> Iterator[int]:
        """Return the slots in (after, until]."""
        first_ms = after_ms - (after_ms - self.anchor_ms) % self.period_ms + self.period_ms
        return iter(range(first_ms, until_ms + 1, self.period_ms))

    def has(self, slot_ms: int) -> bool:
        return (slot_ms - self.anchor_ms) % self.period_ms == 0


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a task: for which entry and slot, and when it began."""

    entry: str
    slot_ms: int | None
    at_ms: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """A recorded range of slots that were not fired, both ends included."""

    entry: str
    from_ms: int
    to_ms: int


Slot = tuple[str, int | None]


@dataclass(frozen=True, slots=True)
class Findings:
    """What is wrong; empty lists when nothing is. *expected* is how many slots the window has."""

    expected: int
    missing: list[Slot] = field(default_factory=list)
    doubled: list[Slot] = field(default_factory=list)
    early: list[Slot] = field(default_factory=list)
    unknown: list[Slot] = field(default_factory=list)
    contradicted: list[Slot] = field(default_factory=list)

    @property
    def right(self) -> bool:
        return not (self.missing or self.doubled or self.early or self.unknown or self.contradicted)


def check(grids: Iterable[Grid], runs: Iterable[Run], *, from_ms: int, until_ms: int, skipped: Iterable[Skipped] = ()) -> Findings:
    """Return what is wrong with *runs* in the window (from, until], given the slots that there are and those *skipped* on record."""
    known = {grid.entry: grid for grid in grids}
    runs, ranges = list(runs), list(skipped)
    counts = Counter((run.entry, run.slot_ms) for run in runs)
    expected = [(grid.entry, slot_ms) for grid in known.values() for slot_ms in grid.between(from_ms, until_ms)]
    return Findings(
        expected=len(expected),
        missing=[slot for slot in expected if not counts[slot] and not _is_skipped(slot, ranges)],
        doubled=[slot for slot, count in counts.items() if count > 1],
        early=[(run.entry, run.slot_ms) for run in runs if run.slot_ms is not None and run.at_ms < run.slot_ms],
        unknown=[slot for slot in counts if not _is_known(slot, known)],
        contradicted=[slot for slot in counts if _is_skipped(slot, ranges)],
    )


def _is_skipped(slot: Slot, ranges: Iterable[Skipped]) -> bool:
    entry, slot_ms = slot
    return slot_ms is not None and any(skip.entry == entry and skip.from_ms <= slot_ms <= skip.to_ms for skip in ranges)


def _is_known(slot: Slot, known: dict[str, Grid]) -> bool:
    entry, slot_ms = slot
    return slot_ms is not None and entry in known and known[entry].has(slot_ms)
