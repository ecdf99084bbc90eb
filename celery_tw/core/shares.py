"""Shares: which waiting message goes on next.

Each message waits in its own lane, and counts for a better one when it has waited long (`Ageing`)::

    own lane   waits since …   longer than low_to_medium   longer than medium_to_high
    high       high
    medium     medium                                      high, promoted
    low        low             medium, promoted            high, promoted

The turns go round the three lanes by smooth weighted round robin: each lane that has something gains its share, the richest has the turn
and pays all that was gained. A lane without anything gains nothing, so its share goes to the others, and what it had left is kept for when
it has something again: less than one turn.

In its lane the oldest goes first, but promoted messages have at most each second turn while others wait there. And each fifth turn,
whatever the shares, is the oldest message's that has waited longer than *starving*: a rescue. A promoted message that was rescued counts
in the half of high that the promoted may have.

All that is asked of the lanes are their oldest messages, in six segments that are cut by age; so a choice costs the same whatever waits.
The smooth round robin is nginx's (``ngx_http_upstream_round_robin.c``, 2012).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from celery_tw.core.lane import LANES

HIGH, MEDIUM, LOW = LANES
RESCUE_EVERY = 5
MOST_AHEAD = 4
"""How many turns of others than promoted ones are owed at most, after rescues."""


@dataclass(frozen=True, slots=True)
class Ageing:
    """After how many ms a message counts for a better lane, and from when on it is starving."""

    low_to_medium_ms: int
    medium_to_high_ms: int
    starving_ms: int

    def segments(self, now_ms: int) -> dict["Segment", tuple[int | None, int | None]]:
        """Return what part of its own lane each segment is: the first and last ms in which its messages came, None for an open end."""
        older, oldest = now_ms - self.low_to_medium_ms, now_ms - self.medium_to_high_ms
        return {
            Segment(HIGH, HIGH): (None, None),
            Segment(MEDIUM, HIGH): (None, oldest),
            Segment(LOW, HIGH): (None, oldest),
            Segment(MEDIUM, MEDIUM): (oldest + 1, None),
            Segment(LOW, MEDIUM): (oldest + 1, older),
            Segment(LOW, LOW): (max(older, oldest) + 1, None),
        }


@dataclass(frozen=True, slots=True)
class Segment:
    """The messages of lane *own* that count for the lane *turn*."""

    own: str
    turn: str

    @property
    def promoted(self) -> bool:
        """Return whether its messages count for a better lane than their own."""
        return self.own != self.turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A message, by its id and the ms in which it came; *turn* is the lane whose turn it has, *segment* where it was found."""

    segment: Segment
    turn: str
    since_ms: int
    entry_id: int


Heads = Mapping[Segment, Sequence[tuple[int, int]]]
"""The oldest messages of each segment, as pairs of the ms in which they came and id, the oldest first."""


class Shares:
    """The turns of one queue; *shares* are per cent, high first. What was given before counts, so the same one is to be asked each time."""

    def __init__(self, shares: Sequence[int], ageing: Ageing) -> None:
        self.ageing = ageing
        self._shares = dict(zip(LANES, shares, strict=True))
        self._credit = dict.fromkeys(LANES, 0)
        self._ahead = dict.fromkeys(LANES, 0)
        self._since_rescue = 0

    def choose(self, heads: Heads, count: int, *, now_ms: int, most: int) -> list[Choice]:
        """Return the next *count* messages in the order of their turns.

        They are fewer when *heads* hold no more, or when a segment of which *most* were read runs out: it may have more.
        """
        waiting = _Waiting(heads, starving_ms=now_ms - self.ageing.starving_ms, most=most)
        chosen: list[Choice] = []
        while len(chosen) < count and not waiting.cut_short and (choice := self._next(waiting)) is not None:
            chosen.append(choice)
        return chosen

    def _next(self, waiting: "_Waiting") -> Choice | None:
        lanes = waiting.lanes()
        if not lanes:
            return None
        if self._since_rescue >= RESCUE_EVERY - 1:
            starving = waiting.starving()
            if starving is not None:
                return self._rescue(waiting, starving)
        self._since_rescue += 1
        turn = self._turn(lanes)
        return waiting.take(self._segment(waiting, turn), turn)

    def _rescue(self, waiting: "_Waiting", segment: Segment) -> Choice:
        self._since_rescue = 0
        if segment.promoted:
            self._ahead[segment.turn] = max(self._ahead[segment.turn] - 1, -MOST_AHEAD)
        return waiting.take(segment, segment.turn)

    def _turn(self, lanes: Sequence[str]) -> str:
        for lane in lanes:
            self._credit[lane] += self._shares[lane]
        turn = max(lanes, key=self._credit.__getitem__)
        self._credit[turn] -= sum(self._shares[lane] for lane in lanes)
        return turn

    def _segment(self, waiting: "_Waiting", turn: str) -> Segment:
        """Return where the oldest message is that may have the turn."""
        fresh, promoted = waiting.oldest(turn, promoted=False), waiting.oldest(turn, promoted=True)
        if fresh is None or promoted is None:
            chosen = fresh or promoted
            assert chosen is not None
            return chosen
        if self._ahead[turn] > 0 and waiting.is_older(promoted, fresh):
            self._ahead[turn] -= 1
            return promoted
        self._ahead[turn] = min(self._ahead[turn] + 1, 1)
        return fresh


class _Waiting:
    """What is left of the heads while turns are given."""

    def __init__(self, heads: Heads, *, starving_ms: int, most: int) -> None:
        self.cut_short = False
        self._cut = {segment for segment, found in heads.items() if len(found) >= most}
        self._left: dict[Segment, Iterator[tuple[int, int]]] = {segment: iter(found) for segment, found in heads.items()}
        self._first = {segment: first for segment, left in self._left.items() if (first := next(left, None)) is not None}
        self._starving_ms = starving_ms

    def lanes(self) -> list[str]:
        """Return the lanes that have something, high first."""
        turns = {segment.turn for segment in self._first}
        return [lane for lane in LANES if lane in turns]

    def oldest(self, turn: str, *, promoted: bool) -> Segment | None:
        """Return the segment with the oldest message for the lane *turn*."""
        segments = [segment for segment in self._first if segment.turn == turn and segment.promoted is promoted]
        return min(segments, key=self._first.__getitem__, default=None)

    def is_older(self, segment: Segment, other: Segment) -> bool:
        return self._first[segment] < self._first[other]

    def starving(self) -> Segment | None:
        """Return the segment with the oldest message of all, if that is starving."""
        segment = min(self._first, key=self._first.__getitem__)
        return segment if self._first[segment][0] <= self._starving_ms else None

    def take(self, segment: Segment, turn: str) -> Choice:
        since_ms, entry_id = self._first[segment]
        first = next(self._left[segment], None)
        if first is None:
            del self._first[segment]
            self.cut_short = segment in self._cut
        else:
            self._first[segment] = first
        return Choice(segment=segment, turn=turn, since_ms=since_ms, entry_id=entry_id)
