"""Fair queues with a leader and a stock worker, on both kinds of broker: shares, ageing, alarms, boosts."""

from collections import Counter
from typing import Any

import pytest

from celery_tw.core.lane import LANES
from celery_tw.events import task_starving
from tests.integration.fair_shop import TIMEOUT_S, Shop
from tests.waiting import wait_until

HOUR_MS = 3_600_000


def lanes_in(starts: list[tuple[str, str]]) -> list[int]:
    """Return how many of *starts* each lane has, high first."""
    counts = Counter(lane for lane, _ in starts)
    return [counts[lane] for lane in LANES]


@pytest.mark.parametrize(("stored", "started"), [(250, 200), pytest.param(600, 300, marks=pytest.mark.long)])
def test_starts_are_50_30_and_20_of_a_hundred(stored: int, started: int, fair_shop: Shop) -> None:
    with fair_shop.holding():
        for lane in reversed(LANES):
            fair_shop.store(lane, stored)

    starts = fair_shop.work(started)

    for count, asked in zip(lanes_in(starts), (50, 30, 20), strict=True):
        assert abs(100 * count / started - asked) <= 2
    (view,) = fair_shop.wheel.lanes.stats()  # of what went on to the queue, some time longer than the worker took from there
    assert view.fair
    for lane in view.lanes:
        assert lane.share is not None
        assert lane.waiting
        assert abs(lane.share - lane.asked) <= 2


def test_the_share_of_an_empty_lane_goes_to_the_others(fair_shop: Shop) -> None:
    with fair_shop.holding():
        fair_shop.store("low", 70)
        fair_shop.store("high", 150)

    high, medium, low = lanes_in(fair_shop.work(140))

    assert medium == 0
    assert abs(high - 100) <= 3
    assert abs(low - 40) <= 3


def test_promoted_tasks_go_before_their_lane_and_leave_half_of_the_one_they_join(fair_shop: Shop) -> None:
    with fair_shop.holding():
        fair_shop.store("low", 60, word="old", age_ms=3 * HOUR_MS)
        fair_shop.store("low", 20, word="new")
        fair_shop.store("high", 60, word="new")

    starts = fair_shop.work(60)

    counts = Counter(starts)
    assert counts["low", "old"] >= 15
    assert counts["high", "new"] >= counts["low", "old"] - 1
    assert 8 <= counts["low", "new"] <= 20


def test_a_boosted_task_starts_before_those_that_came_after_it(fair_shop: Shop) -> None:
    with fair_shop.holding():
        fair_shop.store("low", 1, word="boosted", age_ms=1000)
        fair_shop.store("low", 40)
        fair_shop.store("high", 40)
    assert fair_shop.wheel.lanes.boost(lane="low", older_than=0.9) == 1

    starts = fair_shop.work(10)

    assert starts[0] == ("low", "boosted")


def test_each_starving_task_is_told_of_once_whoever_leads(fair_shop: Shop) -> None:
    heard: list[dict[str, Any]] = []

    def hear(sender: Any, signal: Any, **facts: Any) -> None:
        heard.append(facts)

    fair_shop.fill()
    with fair_shop.holding():
        fair_shop.store("low", 25, age_ms=5 * HOUR_MS)
        fair_shop.store("high", 1, age_ms=3 * HOUR_MS)
    task_starving.connect(hear)
    try:
        with fair_shop.leading():
            wait_until(lambda: len(heard) >= 25, TIMEOUT_S, message="the alarms")
        with fair_shop.holding():
            fair_shop.store("medium", 1, age_ms=4 * HOUR_MS - 1000)
        with fair_shop.leading():
            wait_until(lambda: len(heard) >= 26, TIMEOUT_S, message="one more alarm")
    finally:
        task_starving.disconnect(hear)

    assert Counter((facts["task"], facts["queue"], facts["lane"]) for facts in heard) == {
        ("note", fair_shop.queue, "low"): 25,
        ("note", fair_shop.queue, "medium"): 1,
    }
    assert len({facts["task_id"] for facts in heard}) == 26
    assert min(facts["waited_ms"] for facts in heard) >= 4 * HOUR_MS
    assert [lane.starving for lane in fair_shop.wheel.lanes.stats()[0].lanes] == [0, 1, 25]
