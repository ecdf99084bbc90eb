"""Verdict: what was expected, beside what ran. Pure, so that it can be tested with planted faults.

An entry is watched from one moment to another. Each of its slots in between must have run exactly once. A slot at either edge (within
EDGE_MS) may or may not have: whether a slot belongs to an entry that is being added or removed at that instant is decided by Redis.
Outside, and for a cancelled entry, nothing may have run.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

EDGE_MS = 300


@dataclass(frozen=True, slots=True)
class Expected:
    """The slots of one entry that must run, and those that may."""

    entry: str
    slots_ms: Sequence[int]
    allowed_ms: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """One entry's account."""

    entry: str
    expected: int
    ran: int
    missed_ms: list[int] = field(default_factory=list)
    doubled_ms: list[int] = field(default_factory=list)
    unexpected_ms: list[int] = field(default_factory=list)

    @property
    def right(self) -> bool:
        return not (self.missed_ms or self.doubled_ms or self.unexpected_ms)


def expect(entry: str, slots_ms: Iterable[int], *, from_ms: int, until_ms: int) -> Expected:
    """Return what is expected of an entry with these slots that was watched from *from_ms* to *until_ms*."""
    must, may = [], []
    for slot_ms in slots_ms:
        if from_ms + EDGE_MS < slot_ms <= until_ms - EDGE_MS:
            must.append(slot_ms)
        elif slot_ms <= until_ms + EDGE_MS:
            may.append(slot_ms)
    return Expected(entry, must, may)


def judge(expected: Expected, ran_ms: Iterable[int]) -> Outcome:
    """Return the account of one entry, given the slots for which its task ran."""
    counts = Counter(ran_ms)
    known = {*expected.slots_ms, *expected.allowed_ms}
    return Outcome(
        entry=expected.entry,
        expected=len(expected.slots_ms),
        ran=counts.total(),
        missed_ms=[slot_ms for slot_ms in expected.slots_ms if not counts[slot_ms]],
        doubled_ms=[slot_ms for slot_ms, count in sorted(counts.items()) if count > 1],
        unexpected_ms=[slot_ms for slot_ms in sorted(counts) if slot_ms not in known],
    )
