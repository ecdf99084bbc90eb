"""Judgement: what became of the slots of entries that fire every second. Pure.

A message of the time wheel names its slot: each slot of the grid in the window must come once, and is late by how long after the slot it
came. The peers' messages name none. Theirs are counted against the grid of seconds through the entry's own first message, the i-th
message standing for the i-th slot, so what was late with the first is forgiven, and a double can only be told by too many messages.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import linear_regression, median

from benchmarks.receiver import Received

GRID_S = 1.0
MARGIN_S = 0.5
"""Slots this close to the end of the window are left out: their messages may still be on their way."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """What one contender did with the slots of the window; *drift_ms* is the trend: how much later each fire is than the one before."""

    slots: int
    missed: int
    doubled: int
    drift_ms: float
    late_p50_ms: float
    late_p99_ms: float
    late_max_ms: float


@dataclass(frozen=True, slots=True)
class _Fires:
    """One entry's expected slots, its fires as pairs of slot and arrival, and how many came beyond one for each slot."""

    expected: int
    fires: list[tuple[float, float]]
    doubled: int

    @property
    def late_ms(self) -> list[float]:
        return [1000 * (at_s - slot_s) for slot_s, at_s in self.fires]

    @property
    def drift_ms(self) -> float:
        late = self.late_ms
        return linear_regression(range(len(late)), late).slope if len(late) > 1 else 0.0


def judge(received: Sequence[Received], *, entries: int, start_s: float, end_s: float) -> Accuracy:
    """Return what became of the slots of *entries* entries between *start_s* and *end_s*."""
    by_entry = list(_by_entry(received, entries=entries, start_s=start_s, end_s=end_s))
    late_ms = sorted(late for one in by_entry for late in one.late_ms)
    return Accuracy(
        slots=sum(one.expected for one in by_entry),
        missed=sum(one.expected - len(one.fires) for one in by_entry),
        doubled=sum(one.doubled for one in by_entry),
        drift_ms=median(one.drift_ms for one in by_entry),
        late_p50_ms=_share(late_ms, 0.5),
        late_p99_ms=_share(late_ms, 0.99),
        late_max_ms=_share(late_ms, 1.0),
    )


def _by_entry(received: Sequence[Received], *, entries: int, start_s: float, end_s: float) -> Iterator[_Fires]:
    came: dict[int, list[Received]] = defaultdict(list)
    for message in received:
        came[message.number].append(message)
    for number in range(entries):
        messages = came[number]
        if messages and messages[0].slot_ms is not None:
            yield _named(messages, start_s=start_s, end_s=end_s)
        else:
            yield _unnamed([message.at_s for message in messages if start_s <= message.at_s < end_s], start_s=start_s, end_s=end_s)


def _named(messages: Sequence[Received], *, start_s: float, end_s: float) -> _Fires:
    grid = {second * GRID_S for second in range(math.ceil(start_s / GRID_S), math.ceil((end_s - MARGIN_S) / GRID_S))}
    pairs = [((message.slot_ms or 0) / 1000, message.at_s) for message in messages]
    on_grid = [pair for pair in pairs if pair[0] in grid]
    first_of_each = dict(reversed(on_grid))
    return _Fires(len(grid), sorted(first_of_each.items()), len(on_grid) - len(first_of_each))


def _unnamed(times_s: Sequence[float], *, start_s: float, end_s: float) -> _Fires:
    first_s = times_s[0] if times_s else start_s
    expected = max(0, math.ceil((end_s - MARGIN_S - first_s) / GRID_S))
    fires = [(first_s + index * GRID_S, at_s) for index, at_s in enumerate(times_s[:expected])]
    return _Fires(expected, fires, max(0, len(times_s) - expected - 1))


def _share(ascending: Sequence[float], share: float) -> float:
    return ascending[min(len(ascending) - 1, int(share * len(ascending)))] if ascending else 0.0
