"""The wheel: nothing early, nothing lost, nothing twice, and never much work at once."""

import tracemalloc
from bisect import insort

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from celery_tw.core.wheel import MOVES_PER_ADVANCE, Wheel
from celery_tw.errors import ImproperlyConfigured

SECOND_MS = 1000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
NOON_MS = 20_000 * DAY_MS + 12 * HOUR_MS


def at(hour, minute=0, second=0, ms=0):
    """Return a time of the day whose noon is NOON_MS."""
    return NOON_MS + (hour - 12) * HOUR_MS + minute * MINUTE_MS + second * SECOND_MS + ms


def drain(wheel, now_ms, limit=1000):
    """Call advance as an engine does, until there is nothing left to do at *now_ms*."""
    taken = wheel.advance(now_ms, limit=limit)
    while (next_ms := wheel.next_ms()) is not None and next_ms <= now_ms:
        taken += wheel.advance(now_ms, limit=limit)
    return taken


def test_an_id_two_hours_fifteen_minutes_and_thirty_seconds_ahead_comes_down_ring_by_ring():
    wheel = Wheel(now_ms=at(12))
    due_ms = at(14, 15, 30, 250)
    assert wheel.insert(7, due_ms)

    assert wheel.next_ms() == at(13)
    assert wheel.advance(at(13)) == []
    assert wheel.next_ms() == at(14, 14)
    assert wheel.advance(at(14, 14)) == []
    assert wheel.next_ms() == at(14, 15, 30)
    assert wheel.advance(at(14, 15, 30)) == []
    assert wheel.next_ms() == due_ms
    assert wheel.advance(due_ms - 1) == []
    assert wheel.advance(due_ms) == [(due_ms, 7)]
    assert wheel.next_ms() is None
    assert len(wheel) == 0


@pytest.mark.parametrize(
    "ahead_ms",
    [
        0,
        1,
        999,
        SECOND_MS,
        MINUTE_MS - 1,
        MINUTE_MS,
        2 * MINUTE_MS,
        HOUR_MS - 1,
        HOUR_MS,
        2 * HOUR_MS + 1,
        DAY_MS - 1,
        DAY_MS,
        2 * DAY_MS,
        3 * DAY_MS + 4 * HOUR_MS + 5 * MINUTE_MS + 6_007,
        29 * DAY_MS + 23 * HOUR_MS,
        30 * DAY_MS - 1,
    ],
)
@pytest.mark.parametrize("start_ms", [at(12), at(12, 59, 59), at(23, 59, 59)])
def test_an_id_of_any_ring_comes_down_through_all_below_and_out_on_its_millisecond(start_ms, ahead_ms):
    wheel = Wheel(now_ms=start_ms)
    due_ms = start_ms + ahead_ms
    assert wheel.insert(1, due_ms)

    while (next_ms := wheel.next_ms()) < due_ms:
        assert wheel.advance(next_ms) == []

    assert next_ms == due_ms or ahead_ms == 0
    assert wheel.advance(due_ms) == [(due_ms, 1)]


def test_a_clock_that_jumps_over_all_rings_finds_everything_in_order():
    wheel = Wheel(now_ms=at(12))
    dues = [at(12, 0, 0, 5), at(12, 0, 30), at(12, 40), at(20), at(12) + 3 * DAY_MS, at(12) + 20 * DAY_MS]
    wheel.insert_many((number, due_ms) for number, due_ms in reversed(list(enumerate(dues))))

    taken = drain(wheel, at(12) + 25 * DAY_MS)

    assert taken == [(due_ms, number) for number, due_ms in enumerate(dues)]


def test_an_empty_wheel_reaches_its_span_from_wherever_the_clock_jumped():
    wheel = Wheel(now_ms=at(12))
    assert wheel.advance(at(12) + 20 * DAY_MS) == []

    assert wheel.insert(1, at(12) + 50 * DAY_MS - 1)


def test_what_lies_beyond_the_span_is_refused():
    wheel = Wheel(now_ms=at(12))

    assert wheel.span_ms == 30 * DAY_MS
    assert wheel.insert(1, at(12) + wheel.span_ms - 1)
    assert not wheel.insert(2, at(12) + wheel.span_ms)
    assert wheel.insert_many([(3, at(13)), (4, at(12) + wheel.span_ms)]) == 1
    assert len(wheel) == 2


def test_past_dues_come_out_at_the_next_advance_oldest_first():
    wheel = Wheel(now_ms=at(12))
    wheel.insert_many([(1, at(12, 0, 0, 1)), (2, at(11)), (3, at(1)), (4, at(11, 59, 59, 999))])

    assert wheel.next_ms() == at(1)
    assert wheel.advance(at(12, 0, 0, 1), limit=2) == [(at(1), 3), (at(11), 2)]
    assert wheel.advance(at(12, 0, 0, 1)) == [(at(11, 59, 59, 999), 4), (at(12, 0, 0, 1), 1)]


def test_an_insert_into_the_open_second_finds_its_place():
    wheel = Wheel(now_ms=at(12))
    wheel.insert_many([(1, at(12, 0, 5, 100)), (2, at(12, 0, 5, 900))])
    assert wheel.advance(at(12, 0, 5, 200)) == [(at(12, 0, 5, 100), 1)]

    wheel.insert(3, at(12, 0, 5, 500))
    wheel.insert(4, at(12, 0, 5, 150))

    assert wheel.next_ms() == at(12, 0, 5, 150)
    assert [entry_id for _, entry_id in wheel.advance(at(12, 0, 6))] == [4, 3, 2]


def test_time_never_goes_back():
    wheel = Wheel(now_ms=at(12))
    wheel.insert_many([(1, at(12, 10)), (2, at(12, 20))])
    assert wheel.advance(at(12, 15)) == [(at(12, 10), 1)]

    assert wheel.advance(at(11)) == []
    wheel.insert(3, at(12, 5))
    assert wheel.advance(at(12, 4)) == []
    assert wheel.advance(at(12, 5)) == [(at(12, 5), 3)]
    assert drain(wheel, at(12, 20)) == [(at(12, 20), 2)]


def test_a_cancelled_id_does_not_come_out():
    wheel = Wheel(now_ms=at(12))
    wheel.insert_many([(1, at(12, 0, 0, 50)), (2, at(14)), (3, at(14)), (4, at(1))])
    wheel.cancel(1, at(12, 0, 0, 50))
    wheel.cancel(2, at(14))
    wheel.cancel(4, at(1))

    assert drain(wheel, at(15)) == [(at(14), 3)]
    assert len(wheel) == 0


def test_an_id_cancelled_and_inserted_again_comes_out_once():
    wheel = Wheel(now_ms=at(12))
    for _ in range(3):
        wheel.insert(1, at(14))
        wheel.cancel(1, at(14))
    wheel.insert(1, at(14))

    assert drain(wheel, at(14)) == [(at(14), 1)]


def test_cancelling_what_is_not_held_does_no_harm():
    wheel = Wheel(now_ms=at(12))
    wheel.cancel(1, at(14))
    wheel.cancel(2, at(12) + 90 * DAY_MS)
    wheel.insert(1, at(14))

    assert drain(wheel, at(14)) == [(at(14), 1)]


def test_cancelling_what_lies_beyond_the_span_leaves_no_mark():
    wheel = Wheel(now_ms=at(12))
    wheel.cancel(1, at(12) + wheel.span_ms)
    assert wheel._marks == {}

    wheel.cancel(1, at(12) + wheel.span_ms - 1)
    assert len(wheel._marks) == 1


def test_the_marks_of_cancelled_ids_go_when_their_second_has_passed():
    wheel = Wheel(now_ms=at(12))
    for number in range(100):
        wheel.insert(number, at(12, number % 7, number % 5))
        wheel.cancel(number, at(12, number % 7, number % 5))
        wheel.cancel(-number, at(12, 30, number % 5))

    assert drain(wheel, at(13)) == []
    assert wheel._marks == {}
    assert wheel._marked == []


def test_an_hour_of_many_ids_is_brought_down_ahead_in_small_steps():
    wheel = Wheel(now_ms=at(12))
    many = 10 * MOVES_PER_ADVANCE
    wheel.insert_many((number, at(15, 0, 0, number % 1000)) for number in range(many))

    calls = 0
    while wheel.next_ms() <= at(14):
        assert wheel.advance(at(14)) == []
        calls += 1

    assert 10 <= calls <= 12
    assert len(drain(wheel, at(15, 0, 1))) == many


def test_a_clock_that_jumps_into_a_full_hour_still_moves_it_in_small_steps_and_in_order():
    wheel = Wheel(now_ms=at(12))
    many = 5 * MOVES_PER_ADVANCE
    dues = [at(15) + number * 7919 % HOUR_MS for number in range(many)]
    wheel.insert_many(enumerate(dues))

    early = wheel.advance(at(15, 30))
    wheel.insert(-1, at(14))
    taken = drain(wheel, at(15, 30))

    assert early == []
    assert taken[0] == (at(14), -1)
    assert [due_ms for due_ms, _ in taken[1:]] == sorted(due_ms for due_ms in dues if due_ms <= at(15, 30))


def test_a_second_of_too_many_ids_to_sort_at_once_goes_out_whole_and_in_order():
    wheel = Wheel(now_ms=at(12))
    dues = [at(12, 0, 30, number * 7 % 1000) for number in range(3 * MOVES_PER_ADVANCE)]
    wheel.insert_many(enumerate(dues))

    assert wheel.advance(at(12, 0, 31)) == []
    taken = drain(wheel, at(12, 0, 31))

    assert [due_ms for due_ms, _ in taken] == sorted(dues)
    assert {entry_id for _, entry_id in taken} == set(range(len(dues)))


def test_sorting_a_second_is_part_of_the_work_of_a_call():
    wheel = Wheel(now_ms=at(12))
    wheel.insert_many((number, at(12, 1)) for number in range(MOVES_PER_ADVANCE))
    wheel.insert(-1, at(12, 2, 5))

    assert len(wheel.advance(at(12, 1), limit=2 * MOVES_PER_ADVANCE)) == MOVES_PER_ADVANCE
    assert wheel.next_ms() <= at(12, 1), "the next minute is still to be brought down"
    assert wheel.advance(at(12, 1)) == []
    assert wheel.next_ms() == at(12, 2, 5)


def test_what_is_due_before_a_second_that_is_still_being_moved_does_not_wait_for_it():
    wheel = Wheel(now_ms=at(12))
    many = 3 * MOVES_PER_ADVANCE
    wheel.insert_many((number, at(15) + number % 3) for number in range(many))
    assert wheel.advance(at(15, 0, 1)) == []

    wheel.insert(-1, at(15) - 1)

    assert wheel.advance(at(15, 0, 1)) == [(at(15) - 1, -1)]
    assert [due_ms for due_ms, _ in drain(wheel, at(15, 0, 1))] == sorted(at(15) + number % 3 for number in range(many))


def test_an_advance_hands_out_a_thousand_ids_unless_told_otherwise():
    wheel = Wheel(now_ms=at(12))
    wheel.insert_many((number, at(13)) for number in range(1500))

    assert [len(wheel.advance(at(13))) for _ in range(2)] == [1000, 500]


def test_a_moment_that_fills_the_limit_leaves_nothing_to_do():
    wheel = Wheel(now_ms=at(12))
    wheel.insert_many((number, at(11)) for number in range(3))

    assert len(wheel.advance(at(12), limit=3)) == 3
    assert wheel.next_ms() is None


def test_ids_that_go_out_beside_a_cancelled_one_do_not_count_as_dropped():
    wheel = Wheel(now_ms=at(12))
    for ms in (1, 2):
        wheel.insert_many((number, at(12, 0, 0, ms)) for number in range(MOVES_PER_ADVANCE))
    wheel.cancel(0, at(12, 0, 0, 1))

    assert len(wheel.advance(at(12, 0, 0, 2), limit=3 * MOVES_PER_ADVANCE)) == 2 * MOVES_PER_ADVANCE - 1


def test_many_cancelled_ids_are_dropped_in_small_steps():
    wheel = Wheel(now_ms=at(12))
    many = 3 * MOVES_PER_ADVANCE
    for number in range(many):
        wheel.insert(number, at(12, 0, 0, 1))
        wheel.cancel(number, at(12, 0, 0, 1))

    assert wheel.advance(at(12, 0, 0, 1)) == []
    assert len(wheel) >= MOVES_PER_ADVANCE
    assert drain(wheel, at(12, 0, 0, 1)) == []
    assert len(wheel) == 0


def test_the_limit_of_a_call_holds_over_all_seconds_that_it_passes():
    wheel = Wheel(now_ms=at(12))
    dues = [at(12, 0, second, ms) for second in (1, 2, 3) for ms in (0, 1, 2)]
    wheel.insert_many(enumerate(dues))

    assert [due_ms for due_ms, _ in wheel.advance(at(12, 1), limit=4)] == dues[:4]
    assert [due_ms for due_ms, _ in wheel.advance(at(12, 1), limit=5)] == dues[4:]


def test_many_ids_of_one_millisecond_come_in_parts_and_all():
    wheel = Wheel(now_ms=at(12))
    wheel.insert_many((number, at(13)) for number in range(5000))

    parts = []
    while wheel.next_ms() is not None:
        parts.append([entry_id for _, entry_id in wheel.advance(at(13), limit=700)])

    assert max(map(len, parts)) == 700
    assert sorted(entry_id for part in parts for entry_id in part) == list(range(5000))


def test_an_id_takes_few_bytes():
    many = 100_000
    tracemalloc.start()
    try:
        wheel = Wheel(now_ms=at(12))
        before = tracemalloc.get_traced_memory()[0]
        wheel.insert_many((number, at(12) + 5000 + number * 97 % (20 * DAY_MS)) for number in range(many))
        per_id = (tracemalloc.get_traced_memory()[0] - before) / many
    finally:
        tracemalloc.stop()

    assert per_id < 24


@pytest.mark.parametrize("levels", [(60, 60, 24), (60, 60, 24, 0), (60, 60, 24, 1.5), (True, 60, 24, 30)])
def test_levels_are_four_whole_numbers(levels):
    with pytest.raises(ImproperlyConfigured, match="tw_wheel_levels"):
        Wheel(now_ms=0, levels=levels)


@given(
    levels=st.tuples(*[st.integers(1, 4)] * 4),
    start_ms=st.integers(-5000, 200_000),
    aheads=st.lists(st.integers(-3000, 260_000), max_size=30),
    steps=st.lists(st.integers(0, 90_000), max_size=12),
)
def test_rings_of_any_length_keep_every_id_to_its_time(levels, start_ms, aheads, steps):
    wheel = Wheel(now_ms=start_ms, levels=levels)
    held = [(start_ms + ahead, n) for n, ahead in enumerate(aheads) if wheel.insert(n, start_ms + ahead)]
    assert len(held) == sum(ahead < wheel.span_ms - start_ms % SECOND_MS for ahead in aheads)

    now_ms = start_ms
    for step in [*steps, wheel.span_ms]:
        now_ms += step
        due = sorted(pair for pair in held if pair[0] <= now_ms)
        held = [pair for pair in held if pair[0] > now_ms]
        taken = drain(wheel, now_ms, limit=4)
        assert [due_ms for due_ms, _ in taken] == [due_ms for due_ms, _ in due]
        assert sorted(taken) == due


class AgainstASortedList(RuleBasedStateMachine):
    """The wheel and a sorted list live through the same inserts, cancels, ticks and jumps."""

    @initialize(start_ms=st.integers(0, 3 * DAY_MS), levels=st.sampled_from([(60, 60, 24, 30), (3, 2, 4, 5), (1, 1, 2, 1)]))
    def start(self, start_ms, levels):
        self.wheel = Wheel(now_ms=start_ms, levels=levels)
        self.now_ms = self.seen_ms = start_ms
        self.held = []
        self.number = 0

    def offset(self, data):
        units = [1, SECOND_MS, *(ring.unit_ms for ring in self.wheel._rings[1:])]
        return data.draw(st.integers(-2, 40)) * data.draw(st.sampled_from(units)) + data.draw(st.integers(0, 1500))

    @rule(data=st.data())
    def insert(self, data):
        due_ms = self.now_ms + self.offset(data)
        self.number += 1
        if self.wheel.insert(self.number, due_ms):
            insort(self.held, (due_ms, self.number))
        else:
            assert due_ms >= self.seen_ms // SECOND_MS * SECOND_MS + self.wheel.span_ms

    @rule(data=st.data(), many=st.integers(2, 30))
    def insert_many_of_one_moment(self, data, many):
        due_ms = self.now_ms + self.offset(data)
        pairs = [(self.number + n, due_ms) for n in range(1, many + 1)]
        self.number += many
        if self.wheel.insert_many(pairs):
            self.held = sorted(self.held + [(due_ms, number) for number, _ in pairs])

    @precondition(lambda self: self.held)
    @rule(data=st.data(), again=st.booleans())
    def cancel(self, data, again):
        due_ms, number = data.draw(st.sampled_from(self.held))
        self.wheel.cancel(number, due_ms)
        if again:
            self.wheel.insert(number, due_ms)
        else:
            self.held.remove((due_ms, number))

    @rule(data=st.data())
    def advance_once(self, data):
        """One call returns the oldest, in order, and when it returns less than is due it says so by next_ms."""
        self.now_ms += max(0, self.offset(data))
        due = [pair for pair in self.held if pair[0] <= self.now_ms]
        taken = self.wheel.advance(self.now_ms, limit=5)
        self.check(taken, due[: len(taken)])
        if len(taken) < len(due):
            assert self.wheel.next_ms() <= self.now_ms

    @rule(data=st.data())
    def jump(self, data):
        self.now_ms += max(0, self.offset(data))
        self.check(drain(self.wheel, self.now_ms, limit=7), [pair for pair in self.held if pair[0] <= self.now_ms])

    @rule(data=st.data())
    def look_back(self, data):
        """A clock that went back gets what is due at the time it shows."""
        past_ms = self.now_ms - abs(self.offset(data))
        taken = self.wheel.advance(past_ms, limit=5)
        self.check(taken, [pair for pair in self.held if pair[0] <= past_ms][: len(taken)])

    def check(self, taken, due):
        assert [due_ms for due_ms, _ in taken] == [due_ms for due_ms, _ in due]
        for pair in taken:
            self.held.remove(pair)
        self.seen_ms = max(self.seen_ms, self.wheel._second * SECOND_MS)

    @invariant()
    def next_ms_is_never_too_late(self):
        if self.held:
            assert self.wheel.next_ms() <= self.held[0][0]
        assert len(self.wheel) >= len(self.held)


TestAgainstASortedList = AgainstASortedList.TestCase
TestAgainstASortedList.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
