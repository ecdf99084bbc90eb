"""Our schedules under stock beat: the way back stays open."""

import copy
import pickle
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from celery import Celery
from celery.beat import PersistentScheduler, Scheduler

from celery_tw.integration.schedules.wheel_schedule import WheelSchedule
from celery_tw.integration.schedules.written import cron, every, once, rrule

NOON = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def app() -> Iterator[Celery]:
    app = Celery("shop", broker="memory://", set_as_current=False)
    yield app
    app.close()


def at(schedule: WheelSchedule, now: datetime, app: Celery) -> WheelSchedule:
    schedule.app, schedule.nowfun = app, lambda: now
    return schedule


def test_an_interval_counts_from_the_last_run(app: Celery) -> None:
    schedule = every(30)
    last_run = NOON + timedelta(seconds=7)
    assert at(schedule, NOON + timedelta(seconds=20), app).is_due(last_run) == (False, 17.0)
    assert at(schedule, NOON + timedelta(seconds=37), app).is_due(last_run) == (True, 30.0)


def test_an_anchored_interval_keeps_its_grid_however_late_it_ran(app: Celery) -> None:
    schedule = every(30, anchor=NOON)
    assert at(schedule, NOON + timedelta(seconds=61), app).is_due(NOON + timedelta(seconds=31)) == (True, 29.0)


def test_a_cron_expression_is_due_at_its_slot(app: Celery) -> None:
    schedule = cron("0 14 * * *", tz="Europe/Berlin")
    assert at(schedule, NOON - timedelta(seconds=5), app).is_due(NOON - timedelta(hours=1)) == (False, 5.0)
    assert at(schedule, NOON, app).is_due(NOON - timedelta(hours=1)) == (True, 86_400.0)
    assert schedule.remaining_estimate(NOON - timedelta(hours=1)) == timedelta(0)


def test_a_naive_last_run_is_read_as_utc(app: Celery) -> None:
    naive = NOON.replace(tzinfo=None)
    assert at(cron("0 14 * * *", tz="Europe/Berlin"), NOON, app).is_due(naive - timedelta(hours=1)).is_due


def test_once_fires_once_and_never_again(app: Celery) -> None:
    schedule = once(NOON)
    assert at(schedule, NOON - timedelta(seconds=9), app).is_due(NOON - timedelta(hours=1)) == (False, 9.0)
    due, wait_s = at(schedule, NOON, app).is_due(NOON - timedelta(hours=1))
    assert due
    assert wait_s > 86_400
    due, wait_s = at(schedule, NOON + timedelta(seconds=1), app).is_due(NOON)
    assert not due
    assert wait_s > 86_400


@pytest.mark.parametrize(
    "build",
    [
        lambda: cron("0 2 * * *"),
        lambda: every(minutes=5),
        lambda: once(NOON),
        lambda: rrule("FREQ=DAILY", tz="Asia/Tokyo"),
    ],
)
def test_equal_schedules_are_equal_hash_alike_and_survive_pickle_and_copy(build) -> None:
    schedule = build()
    assert schedule == build()
    assert hash(schedule) == hash(build())
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert copy.copy(schedule) == copy.deepcopy(schedule) == schedule


def test_different_schedules_differ() -> None:
    assert cron("0 2 * * *") != cron("0 2 * * *", tz="UTC")
    assert every(30) != every(31)
    assert every(30) != 30


def test_repr_says_what_was_written() -> None:
    assert repr(every(minutes=5)) == "<interval: period_ms=300000>"
    assert repr(cron("0 2 * * *", tz="UTC")) == "<cron: expression='0 2 * * *', zone='UTC', day_or=True>"


def test_stock_beat_sends_them(app: Celery) -> None:
    app.conf.beat_schedule = {"tick": {"task": "tick", "schedule": every(milliseconds=10)}}
    beat = Scheduler(app, lazy=False)
    entry = beat.schedule["tick"]
    entry.last_run_at = app.now() - timedelta(seconds=1)
    assert beat.tick() == 0
    assert beat.schedule["tick"].total_run_count == 1
    beat.close()


def test_they_survive_in_the_file_of_the_persistent_scheduler(app: Celery, tmp_path: Path) -> None:
    app.conf.beat_schedule = {"nightly": {"task": "report", "schedule": cron("0 2 * * *", tz="Europe/Berlin")}}
    for _ in range(2):
        beat = PersistentScheduler(app, schedule_filename=str(tmp_path / "schedule"))
        assert beat.schedule["nightly"].schedule == cron("0 2 * * *", tz="Europe/Berlin")
        beat.close()
