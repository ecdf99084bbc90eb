"""A lane is one of three words, or a third of Celery's priorities."""

import pytest

from celery_tw.core.lane import LANES, checked_lane, lane_of_priority
from celery_tw.errors import InvalidLane


@pytest.mark.parametrize("lane", LANES)
def test_the_three_lanes_are_lanes(lane):
    assert checked_lane(lane) == lane


@pytest.mark.parametrize(
    ("value", "advice"), [("hihg", "did you mean 'high'"), ("LOW", "did you mean 'low'"), ("urgent", "not 'urgent'"), (3, "not 3")]
)
def test_another_word_is_refused_with_the_three_and_the_nearest(value, advice):
    with pytest.raises(InvalidLane, match="a lane is one of 'high', 'medium', 'low', not ") as refused:
        checked_lane(value)
    assert advice in str(refused.value)


def test_the_thirds_of_the_priorities_are_the_lanes_counted_from_either_end():
    from_zero = [lane_of_priority(priority, zero_is_first=True) for priority in range(10)]
    assert from_zero == ["high"] * 4 + ["medium"] * 3 + ["low"] * 3
    assert [lane_of_priority(priority, zero_is_first=False) for priority in range(10)] == from_zero[::-1]


@pytest.mark.parametrize(("priority", "lane"), [(-5, "high"), (255, "low")])
def test_a_priority_beyond_the_levels_is_that_of_the_last_one(priority, lane):
    assert lane_of_priority(priority, zero_is_first=True) == lane


def test_a_broker_with_as_many_levels_as_lanes_has_one_for_each():
    assert [lane_of_priority(priority, zero_is_first=True, levels=3) for priority in (-1, 0, 1, 2, 3)] == ["high", *LANES, "low"]
    assert [lane_of_priority(priority, zero_is_first=False, levels=3) for priority in (0, 1, 2)] == list(LANES[::-1])
