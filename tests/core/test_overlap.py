"""What becomes of a slot while an earlier fire of its entry is still there."""

import pytest

from celery_tw.core.misfire import MissedRange, Plan, SkippedRange
from celery_tw.core.overlap import NOTHING, POLICIES, Choice, Standing, choose, restrained

THERE = Standing(("task",))
PLANNED = Plan(fire_ms=5000, mark_ms=5000, next_ms=6000)


@pytest.mark.parametrize("policy", POLICIES)
def test_with_nothing_there_each_policy_fires(policy):
    assert choose(policy, NOTHING) is Choice.FIRE


@pytest.mark.parametrize(
    ("policy", "choice"),
    [("allow", Choice.FIRE), ("skip", Choice.SKIP), ("buffer_one", Choice.BUFFER), ("cancel_previous", Choice.SUPERSEDE)],
)
def test_with_a_fire_there_each_policy_does_what_its_name_says(policy, choice):
    assert choose(policy, THERE) is choice


@pytest.mark.parametrize("tasks", [(), ("task",)])
def test_one_slot_waits_at_most(tasks):
    assert choose("buffer_one", Standing(tasks, waits=True)) is Choice.SKIP


@pytest.mark.parametrize("choice", [Choice.FIRE, Choice.SUPERSEDE])
def test_a_plan_whose_slot_is_fired_stays_as_it_is(choice):
    assert restrained(PLANNED, "cancel_previous", choice) == PLANNED


def test_a_skipped_slot_is_on_record_with_the_policy():
    assert restrained(PLANNED, "skip", Choice.SKIP) == Plan(
        skipped=SkippedRange(from_ms=5000, to_ms=5000, count=1, reason="overlap:skip"), mark_ms=5000, next_ms=6000
    )


def test_a_skipped_slot_joins_the_missed_ones_before_it():
    missed = SkippedRange(from_ms=2000, to_ms=4000, count=3, reason="misfire:latest")
    planned = Plan(fire_ms=5000, skipped=missed, mark_ms=5000, next_ms=6000)

    assert restrained(planned, "skip", Choice.SKIP).skipped == SkippedRange(
        from_ms=2000, to_ms=5000, count=4, reason="misfire:latest, overlap:skip"
    )


def test_a_buffered_slot_is_a_range_of_one_and_decided():
    planned = restrained(PLANNED, "buffer_one", Choice.BUFFER)

    assert planned == Plan(backlog=MissedRange(from_ms=5000, to_ms=5000, next_ms=5000, left=1, rate=1.0), mark_ms=5000, next_ms=6000)


@pytest.mark.parametrize("choice", list(Choice))
def test_a_plan_that_fires_nothing_is_left_alone(choice):
    planned = Plan(skipped=SkippedRange(from_ms=1, to_ms=2, count=2, reason="misfire:skip"), mark_ms=2, next_ms=3)

    assert restrained(planned, "buffer_one", choice) == planned
