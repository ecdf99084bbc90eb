"""Intervals, one-time moments, and the questions that are asked of every recurrence."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_tw.core.interval import SHORTEST_PERIOD_MS, Interval
from celery_tw.core.once import Once
from celery_tw.core.recurrence import LATEST_MS, count_between, last_between, newest_between, slots_between
from celery_tw.errors import InvalidSchedule

HALF_MINUTE = Interval(30_000, anchor_ms=10_000)


@dataclass(frozen=True)
class Stepped:
    """An interval that hides its arithmetic."""

    interval: Interval

    def next_after(self, after_ms):
        return self.interval.next_after(after_ms)


def test_slots_lie_on_the_grid_through_the_anchor():
    assert slots_between(HALF_MINUTE, 0, 100_000, limit=9) == [10_000, 40_000, 70_000, 100_000]


def test_the_next_slot_is_strictly_after():
    assert HALF_MINUTE.next_after(9_999) == 10_000
    assert HALF_MINUTE.next_after(10_000) == 40_000


def test_the_grid_reaches_back_before_the_anchor():
    assert Interval(100, anchor_ms=1_000_000).next_after(5) == 100


def test_a_period_under_ten_milliseconds_is_refused():
    Interval(SHORTEST_PERIOD_MS)
    with pytest.raises(InvalidSchedule, match="from 10 ms"):
        Interval(SHORTEST_PERIOD_MS - 1)


@pytest.mark.parametrize("period", [30.0, "30", None, True])
def test_a_period_is_whole_milliseconds(period):
    with pytest.raises(InvalidSchedule, match="whole milliseconds"):
        Interval(period)


def test_no_slot_lies_beyond_what_a_datetime_can_hold():
    assert Interval(LATEST_MS).next_after(LATEST_MS) is None
    assert Interval(1000).next_after(LATEST_MS) is None
    with pytest.raises(InvalidSchedule):
        Interval(LATEST_MS + 1)
    with pytest.raises(InvalidSchedule):
        Interval(1000, anchor_ms=LATEST_MS + 1)


def test_once_has_its_slot_before_its_moment_and_none_after():
    assert Once(500).next_after(499) == 500
    assert Once(500).next_after(500) is None


def test_once_refuses_what_is_no_moment():
    with pytest.raises(InvalidSchedule):
        Once(1.5)
    with pytest.raises(InvalidSchedule):
        Once(LATEST_MS + 1)


def test_once_looks_back_by_itself():
    assert last_between(Once(500), 499, 900) == 500
    assert last_between(Once(500), 500, 900) is None
    assert count_between(Once(500), 0, 499, limit=5) == 0
    assert count_between(Once(500), 0, 500, limit=5) == 1
    assert last_between(Once(500), 0, 500) == 500
    assert count_between(Once(500), 500, 900, limit=5) == 0


@given(
    period_ms=st.integers(10, 300),
    anchor_ms=st.integers(-1000, 1000),
    after_ms=st.integers(-2000, 2000),
    until_ms=st.integers(-2000, 2000),
    limit=st.integers(1, 12),
)
def test_arithmetic_and_stepping_give_one_answer(period_ms, anchor_ms, after_ms, until_ms, limit):
    interval = Interval(period_ms, anchor_ms)
    slots = [slot for slot in range(after_ms + 1, until_ms + 1) if (slot - anchor_ms) % period_ms == 0]
    for recurrence in (interval, Stepped(interval)):
        assert slots_between(recurrence, after_ms, until_ms, limit=limit) == slots[:limit]
        assert newest_between(recurrence, after_ms, until_ms, limit=limit) == slots[-limit:]
        assert last_between(recurrence, after_ms, until_ms) == (slots[-1] if slots else None)
        assert count_between(recurrence, after_ms, until_ms, limit=limit) == min(limit, len(slots))


def test_the_last_slot_of_a_burst_long_ago_is_found_in_few_questions():
    asked = 0

    class BurstAtTheStart:
        """Each second of the first hour, then never again."""

        def next_after(self, after_ms):
            nonlocal asked
            asked += 1
            slot_ms = max(0, after_ms // 1000 * 1000 + 1000)
            return slot_ms if slot_ms <= 3_600_000 else None

    assert last_between(BurstAtTheStart(), -1, 10 * 365 * 86_400_000) == 3_600_000
    assert asked < 300
