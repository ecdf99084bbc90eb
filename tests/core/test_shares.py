"""Shares: whose turn it is, under a clock that the tests set."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_tw.core.lane import LANES
from celery_tw.core.shares import HIGH, LOW, MEDIUM, RESCUE_EVERY, Ageing, Choice, Segment, Shares

HOUR_MS = 3_600_000
NOW_MS = 100 * HOUR_MS
AGEING = Ageing(low_to_medium_ms=HOUR_MS, medium_to_high_ms=2 * HOUR_MS, starving_ms=4 * HOUR_MS)


class Queue:
    """A fair queue in memory: its lanes, and a clock."""

    def __init__(self, shares: Sequence[int] = (50, 30, 20)) -> None:
        self.shares = Shares(shares, AGEING)
        self.lanes: dict[str, list[tuple[int, int]]] = {lane: [] for lane in LANES}
        self.now_ms = NOW_MS
        self.stored = 0

    def store(self, lane: str, count: int = 1, *, age_ms: int = 0) -> None:
        for _ in range(count):
            self.stored += 1
            self.lanes[lane].append((self.now_ms - age_ms, self.stored))
        self.lanes[lane].sort()

    def admit(self, count: int, *, most: int = 10_000) -> list[Choice]:
        """Take the next *count* out of their lanes, however many calls that takes."""
        admitted: list[Choice] = []
        while len(admitted) < count:
            chosen = self.shares.choose(self.heads(most), count - len(admitted), now_ms=self.now_ms, most=most)
            if not chosen:
                break
            for choice in chosen:
                self.lanes[choice.segment.own].remove((choice.since_ms, choice.entry_id))
            admitted += chosen
        return admitted

    def heads(self, most: int) -> dict[Segment, list[tuple[int, int]]]:
        return {
            segment: [each for each in self.lanes[segment.own] if _within(each[0], *ends)][:most]
            for segment, ends in AGEING.segments(self.now_ms).items()
        }


def _within(since_ms: int, first_ms: int | None, last_ms: int | None) -> bool:
    return (first_ms is None or first_ms <= since_ms) and (last_ms is None or since_ms <= last_ms)


def owns(choices: Iterable[Choice]) -> Counter[str]:
    """Return how many were admitted from each lane."""
    return Counter(choice.segment.own for choice in choices)


@pytest.fixture
def queue() -> Queue:
    return Queue()


def test_every_ten_turns_are_five_three_and_two(queue: Queue) -> None:
    for lane in LANES:
        queue.store(lane, 200)

    for _ in range(20):
        assert owns(queue.admit(10)) == {HIGH: 5, MEDIUM: 3, LOW: 2}


@pytest.mark.parametrize(
    ("empty", "expected"), [(HIGH, {MEDIUM: 60, LOW: 40}), (MEDIUM, {HIGH: 71, LOW: 29}), (LOW, {HIGH: 62, MEDIUM: 38})]
)
def test_the_share_of_an_empty_lane_goes_to_the_others(queue: Queue, empty: str, expected: dict[str, int]) -> None:
    for lane in LANES:
        queue.store(lane, 0 if lane == empty else 200)

    admitted = owns(queue.admit(100))

    assert {lane: pytest.approx(count, abs=1) for lane, count in expected.items()} == admitted


def test_a_lane_that_was_empty_for_long_has_nothing_saved_up(queue: Queue) -> None:
    queue.store(HIGH, 2000)
    queue.admit(1000)
    queue.store(LOW, 100)

    assert owns(queue.admit(100))[LOW] == pytest.approx(100 * 20 / 70, abs=2)


def test_the_oldest_of_a_lane_goes_first(queue: Queue) -> None:
    for age_ms in (3000, 9000, 1000, 5000):
        queue.store(LOW, age_ms=age_ms)

    assert [NOW_MS - choice.since_ms for choice in queue.admit(4)] == [9000, 5000, 3000, 1000]


@pytest.mark.parametrize("ages_ms", [{LOW: 3 * HOUR_MS, MEDIUM: 2 * HOUR_MS}, {LOW: 2 * HOUR_MS, MEDIUM: 3 * HOUR_MS}])
def test_the_oldest_of_those_promoted_to_a_lane_goes_first_wherever_it_comes_from(queue: Queue, ages_ms: dict[str, int]) -> None:
    for own, age_ms in ages_ms.items():
        queue.store(own, age_ms=age_ms)

    assert [NOW_MS - choice.since_ms for choice in queue.admit(2)] == [3 * HOUR_MS, 2 * HOUR_MS]


@pytest.mark.parametrize(
    ("own", "age_ms", "turn"),
    [
        (LOW, HOUR_MS - 1, LOW),
        (LOW, HOUR_MS, MEDIUM),
        (LOW, 2 * HOUR_MS - 1, MEDIUM),
        (LOW, 2 * HOUR_MS, HIGH),
        (MEDIUM, 2 * HOUR_MS - 1, MEDIUM),
        (MEDIUM, 2 * HOUR_MS, HIGH),
        (HIGH, 3 * HOUR_MS, HIGH),
    ],
)
def test_what_has_waited_counts_for_a_better_lane(queue: Queue, own: str, age_ms: int, turn: str) -> None:
    queue.store(own, age_ms=age_ms)

    (choice,) = queue.admit(1)

    assert (choice.segment.own, choice.turn) == (own, turn)


def test_a_low_task_behind_an_endless_flood_of_high_ones_waits_for_five_turns_at_most(queue: Queue) -> None:
    queue.store(HIGH, 1000)
    queue.admit(500)
    queue.store(LOW)

    assert owns(queue.admit(5))[LOW] == 1


@pytest.mark.parametrize("age_ms", [3 * HOUR_MS, 10 * HOUR_MS])
@pytest.mark.parametrize("others", [0, 1000])
def test_fresh_high_work_keeps_half_of_highs_share_behind_any_number_of_promoted_tasks(queue: Queue, age_ms: int, others: int) -> None:
    queue.store(LOW, 2000, age_ms=age_ms)
    queue.store(HIGH, 1000)
    queue.store(MEDIUM, others)
    queue.store(LOW, others)

    admitted = queue.admit(400)

    fresh = sum(choice.segment == Segment(HIGH, HIGH) for choice in admitted)
    assert fresh >= 400 * (0.25 if others else 0.5) - 5
    assert owns(admitted)[LOW] > 100


def test_promoted_tasks_have_the_lane_to_themselves_when_nothing_fresh_waits(queue: Queue) -> None:
    queue.store(LOW, 300, age_ms=3 * HOUR_MS)
    queue.store(MEDIUM, 300)

    assert owns(queue.admit(80)) == {LOW: 50, MEDIUM: 30}


def test_a_rescue_takes_at_most_each_fifth_turn(queue: Queue) -> None:
    queue.store(MEDIUM, 1000, age_ms=5 * HOUR_MS)
    queue.store(LOW, 1000)

    rescued = [choice for choice in queue.admit(500) if choice.segment.own == MEDIUM]
    usual = 400 * 50 / 70

    assert len(rescued) == pytest.approx(100 + usual, abs=5)


def test_the_oldest_of_all_is_rescued(queue: Queue) -> None:
    queue.store(LOW, 1, age_ms=9 * HOUR_MS)
    queue.store(MEDIUM, 1, age_ms=8 * HOUR_MS)
    queue.store(HIGH, 100, age_ms=5 * HOUR_MS)

    oldest = queue.admit(RESCUE_EVERY * 2)

    assert {LOW, MEDIUM} <= set(owns(oldest))


def test_a_segment_that_was_not_read_to_its_end_is_read_again_before_others_get_its_turns(queue: Queue) -> None:
    for lane in LANES:
        queue.store(lane, 500)

    assert owns(queue.admit(300, most=7)) == {HIGH: 150, MEDIUM: 90, LOW: 60}


@pytest.mark.parametrize("ageing", [AGEING, Ageing(low_to_medium_ms=2 * HOUR_MS, medium_to_high_ms=HOUR_MS, starving_ms=HOUR_MS)])
@pytest.mark.parametrize("own", LANES)
@pytest.mark.parametrize("past_ms", [-2, -1, 0, 1, 2])
@pytest.mark.parametrize("age_ms", [0, HOUR_MS, 2 * HOUR_MS])
def test_a_message_of_any_age_is_in_one_segment_of_its_lane(ageing: Ageing, own: str, age_ms: int, past_ms: int) -> None:
    since_ms = NOW_MS - age_ms - past_ms

    segments = [segment for segment, ends in ageing.segments(NOW_MS).items() if segment.own == own and _within(since_ms, *ends)]

    assert len(segments) == 1


def test_each_fifth_turn_and_no_other_is_a_rescue() -> None:
    starving_in_their_lane = Ageing(low_to_medium_ms=9 * HOUR_MS, medium_to_high_ms=9 * HOUR_MS, starving_ms=HOUR_MS)
    shares = Shares((98, 1, 1), starving_in_their_lane)
    heads = {Segment(HIGH, HIGH): [(NOW_MS, n) for n in range(30)], Segment(LOW, LOW): [(NOW_MS - HOUR_MS, n) for n in range(100, 130)]}

    chosen = shares.choose(heads, 20, now_ms=NOW_MS, most=1000)

    assert [turn for turn, choice in enumerate(chosen, start=1) if choice.segment.own == LOW] == [5, 10, 15, 20]


@pytest.mark.parametrize(("turns", "owed"), [(4, 0), (5, 1), (50, 4)])
def test_a_rescue_of_a_promoted_task_is_a_turn_owed_to_fresh_ones_and_no_more_than_four_are(turns: int, owed: int) -> None:
    shares = Shares((1, 98, 1), AGEING)
    fresh = [(NOW_MS, n) for n in range(100)]
    starving, promoted = [[(NOW_MS - hours * HOUR_MS, n) for n in range(100, 200)] for hours in (5, 3)]
    while_high_has_nothing_fresh = {Segment(MEDIUM, MEDIUM): fresh, Segment(LOW, HIGH): starving}
    rescued = shares.choose(while_high_has_nothing_fresh, turns, now_ms=NOW_MS, most=1000)
    assert owns(rescued)[LOW] == turns // 5

    chosen = shares.choose({Segment(HIGH, HIGH): fresh, Segment(LOW, HIGH): promoted}, owed + 5, now_ms=NOW_MS, most=1000)

    assert [choice.segment.promoted for choice in chosen] == [False] * owed + [False, True, False, True, False]


def test_fresh_turns_in_a_row_do_not_let_promoted_tasks_have_two_in_a_row() -> None:
    shares = Shares((50, 30, 20), replace(AGEING, starving_ms=99 * HOUR_MS))
    fresh = [*((NOW_MS - 9 * HOUR_MS, n) for n in range(3)), *((NOW_MS, n) for n in range(3, 20))]
    promoted = [(NOW_MS - 3 * HOUR_MS, n) for n in range(100, 120)]

    chosen = shares.choose({Segment(HIGH, HIGH): fresh, Segment(LOW, HIGH): promoted}, 8, now_ms=NOW_MS, most=1000)

    assert [choice.segment.promoted for choice in chosen] == [False, False, False, True, False, True, False, True]


def test_each_lane_has_a_share() -> None:
    with pytest.raises(ValueError, match="zip"):
        Shares((50, 50), AGEING)


AGES = st.integers(min_value=0, max_value=6 * HOUR_MS)


@given(st.data())
def test_nothing_is_admitted_twice_or_left_while_there_are_turns(data: st.DataObject) -> None:
    queue = Queue(data.draw(st.sampled_from([(50, 30, 20), (34, 33, 33), (98, 1, 1), (1, 1, 98)])))
    waiting = data.draw(st.lists(st.tuples(st.sampled_from(LANES), AGES), max_size=60))
    for lane, age_ms in waiting:
        queue.store(lane, age_ms=age_ms)

    admitted = queue.admit(len(waiting) + 5, most=data.draw(st.integers(min_value=1, max_value=60)))

    assert sorted(choice.entry_id for choice in admitted) == list(range(1, len(waiting) + 1))


@given(
    st.lists(st.tuples(st.sampled_from(LANES), st.integers(min_value=1, max_value=30), st.integers(min_value=1, max_value=30)), max_size=30)
)
def test_lanes_that_hold_enough_have_their_shares_whatever_came_before(history: list[tuple[str, int, int]]) -> None:
    queue = Queue()
    for lane, stored, admitted in history:
        queue.store(lane, stored)
        queue.admit(admitted)
    for lane in LANES:
        queue.store(lane, 200)

    counts = owns(queue.admit(200))

    assert [counts[lane] for lane in LANES] == pytest.approx([100, 60, 40], abs=3)


@given(st.lists(AGES, min_size=1, max_size=40), st.lists(AGES, min_size=1, max_size=40))
def test_promoted_tasks_have_at_most_half_while_fresh_ones_wait(lows: list[int], highs: list[int]) -> None:
    queue = Queue()
    for age_ms in lows:
        queue.store(LOW, age_ms=age_ms % (2 * HOUR_MS) + 2 * HOUR_MS - 1)
    for age_ms in highs:
        queue.store(HIGH, age_ms=age_ms % HOUR_MS)

    turns = [choice.segment for choice in queue.admit(len(lows) + len(highs)) if choice.turn == HIGH]
    fresh_until = max(index for index, segment in enumerate(turns) if not segment.promoted)
    promoted = 0
    for index, segment in enumerate(turns[:fresh_until]):
        promoted += segment.promoted
        assert promoted <= (index + 1) / 2
