"""What storing a definition does to an entry that may exist already."""

from dataclasses import replace

import pytest

from celery_tw.core.definition import Definition
from celery_tw.core.interval import Interval
from celery_tw.core.misfire import COUNT_LIMIT, SkippedRange
from celery_tw.core.once import Once
from celery_tw.core.upsert import Standing, Upsert, keep_anchor, undecided, upsert

HOURLY = {"kind": "interval", "period_ms": 3_600_000, "anchor_ms": 0}
HOUR_MS = 3_600_000
OLD = Definition(name="report", signature={"task": "shop.report"}, schedule=HOURLY)


def standing(definition: Definition | None = OLD, *, mark_ms: int = HOUR_MS, removed: bool = False) -> Standing:
    return Standing(definition, mark_ms, removed)


def store(definition: Definition, found: Standing | None, *, now_ms: int = 3 * HOUR_MS + 1) -> Upsert:
    return upsert(definition, found, old_recurrence=Interval(HOUR_MS), now_ms=now_ms)


def test_a_new_entry_begins_now():
    assert store(OLD, None) == Upsert(3 * HOUR_MS + 1, None, timed=True)


@pytest.mark.parametrize("found", [standing(removed=True), standing(None)])
def test_an_entry_that_was_removed_or_cannot_be_read_begins_now(found: Standing):
    assert store(OLD, found) == Upsert(3 * HOUR_MS + 1)


def test_an_entry_that_was_removed_never_goes_back_behind_its_mark():
    assert store(OLD, standing(mark_ms=9 * HOUR_MS, removed=True)) == Upsert(9 * HOUR_MS)


def test_a_change_of_what_is_sent_leaves_mark_and_due_time_as_they_stand():
    assert store(replace(OLD, note="new", signature={"task": "shop.other"}), standing()) == Upsert(HOUR_MS, timed=False)


@pytest.mark.parametrize("change", [{"jitter_ms": 500}, {"max_runs": 3}])
def test_jitter_and_the_number_of_runs_keep_the_mark_and_move_the_due_time(change: dict[str, int]):
    assert store(replace(OLD, **change), standing()) == Upsert(HOUR_MS, timed=True)


@pytest.mark.parametrize("change", [{"schedule": {**HOURLY, "anchor_ms": 1}}, {"start_ms": 5}, {"end_ms": 9 * HOUR_MS}])
def test_a_change_of_when_starts_over_from_now_and_records_what_was_open(change: dict[str, object]):
    skipped = SkippedRange(from_ms=2 * HOUR_MS, to_ms=3 * HOUR_MS, count=2, reason="schedule changed")

    assert store(replace(OLD, **change), standing()) == Upsert(3 * HOUR_MS + 1, skipped)


def test_a_change_of_when_never_goes_back_behind_the_mark():
    assert store(replace(OLD, start_ms=5), standing(mark_ms=9 * HOUR_MS)) == Upsert(9 * HOUR_MS)


def test_the_anchor_stays_while_the_period_does():
    moved = replace(OLD, schedule={**HOURLY, "anchor_ms": 77})

    assert keep_anchor(moved, standing()).schedule == HOURLY
    assert keep_anchor(moved, None) is moved
    assert keep_anchor(moved, standing(None)) is moved


def test_the_anchor_moves_with_the_period_and_with_the_kind():
    faster = replace(OLD, schedule={"kind": "interval", "period_ms": 60_000, "anchor_ms": 77})
    once = replace(OLD, schedule={"kind": "once", "at_ms": 77})

    assert keep_anchor(faster, standing()) is faster
    assert keep_anchor(once, standing()) is once
    assert keep_anchor(OLD, standing(once)) is OLD


def test_what_is_open_ends_with_now_and_begins_after_the_mark():
    assert undecided(Interval(1000), mark_ms=1000, now_ms=2000, reason="r") == SkippedRange(from_ms=2000, to_ms=2000, count=1, reason="r")
    assert undecided(Interval(1000), mark_ms=1000, now_ms=1999, reason="r") is None
    assert undecided(Once(500), mark_ms=1000, now_ms=2000, reason="r") is None
    assert undecided(None, mark_ms=0, now_ms=2000, reason="r") is None


def test_more_than_can_be_counted_is_recorded_as_at_least_so_many():
    exactly = undecided(Interval(1000), mark_ms=0, now_ms=(COUNT_LIMIT - 1) * 1000, reason="r")
    more = undecided(Interval(1000), mark_ms=0, now_ms=(COUNT_LIMIT + 5) * 1000, reason="r")

    assert exactly is not None
    assert more is not None
    assert (exactly.count, exactly.at_least) == (COUNT_LIMIT - 1, False)
    assert (more.count, more.at_least, more.to_ms) == (COUNT_LIMIT, True, (COUNT_LIMIT + 5) * 1000)
