"""Runs that entries have begun, and what is counted of them: that is what the leader goes by when a slot is due."""

import threading
from typing import Any

import pytest
from celery import Celery

from celery_tw import TimeWheel
from celery_tw.core.dag_state import RunState
from celery_tw.integration.dags.dag_run import DagRun
from celery_tw.integration.dags.open_runs import marked
from celery_tw.integration.dags.parts import parts_of
from celery_tw.integration.dags.superseded import stop
from celery_tw.integration.runs.counting import counting_of
from tests.dags.conftest import Diary
from tests.dags.writing import TIMEOUT_S, dag_of, working
from tests.waiting import wait_until

COUNTED = {"tw_counted": True, "periodic_task_name": "nightly"}


def open_fires(app: Celery) -> set[str]:
    return set(counting_of(app).open_fires.look([(1, "nightly")])[1].tasks)


def fire(app: Celery, tw: TimeWheel, **nodes: str) -> DagRun:
    """Send what a counted fire of a DAG sends; return the run."""
    signature = tw.dags.signature(dag_of(app, **nodes))
    return tw.dags.run(signature.apply_async(headers=COUNTED).get(timeout=TIMEOUT_S))


def until_only(app: Celery, *expected: str) -> None:
    wait_until(lambda: open_fires(app) == set(expected), TIMEOUT_S, message=f"{expected} to be what is counted")


@pytest.fixture
def gate(diary: Diary) -> threading.Event:
    diary.gates["a"] = threading.Event()
    return diary.gates["a"]


def test_a_run_counts_as_the_fire_of_its_entry_until_it_has_ended(app: Celery, tw: TimeWheel, diary: Diary, gate: Any) -> None:
    with working(app):
        run = fire(app, tw, a="", b="a")
        until_only(app, marked(run.id))
        run.pause()
        gate.set()
        wait_until(lambda: run.status().counts == {"ready": 1, "succeeded": 1}, TIMEOUT_S)
        assert open_fires(app) == {marked(run.id)}
        run.resume()
        assert run.wait(TIMEOUT_S).state == "succeeded"
        until_only(app)


def test_a_run_that_nobody_fired_counts_for_nothing(app: Celery, tw: TimeWheel, diary: Diary, gate: Any) -> None:
    with working(app):
        run = tw.dags.run(tw.dags.signature(dag_of(app, a="")).delay().get(timeout=TIMEOUT_S))
        wait_until(lambda: diary.began, TIMEOUT_S)
        assert open_fires(app) == set()
        gate.set()
        run.wait(TIMEOUT_S)


def test_a_failed_run_counts_no_more_and_counts_again_when_it_is_repaired(app: Celery, tw: TimeWheel, diary: Diary) -> None:
    diary.failing.add("a")
    with working(app):
        run = fire(app, tw, a="", b="a")
        assert run.wait(TIMEOUT_S).state == "failed"
        until_only(app)
        diary.failing.clear()
        diary.gates["b"] = threading.Event()
        run.retry()
        until_only(app, marked(run.id))
        diary.gates["b"].set()
        assert run.wait(TIMEOUT_S).state == "succeeded"
        until_only(app)


def test_what_is_superseded_is_cancelled_be_it_a_run_or_a_task(app: Celery, tw: TimeWheel, diary: Diary, gate: Any) -> None:
    stopped: list[Any] = []
    with working(app):
        run = fire(app, tw, a="", b="a")
        until_only(app, marked(run.id))
        counting_of(app).open_fires.begin("nightly", "a-task", kept_ms=60_000)
        stop(app, "nightly", ["a-task", marked(run.id)], stop_tasks=stopped.extend)
        gate.set()
    assert stopped == ["a-task"]
    assert run.status().state == "cancelled"
    assert open_fires(app) == {"a-task"}


@pytest.mark.parametrize("gone", ["ended", "forgotten"])
def test_a_run_that_is_superseded_after_its_end_counts_no_more(app: Celery, tw: TimeWheel, diary: Diary, gone: str) -> None:
    run_id = "b" * 32
    if gone == "ended":
        with working(app):
            run_id = fire(app, tw, a="").id
            tw.dags.run(run_id).wait(TIMEOUT_S)
            until_only(app)
    parts_of(app).open_runs.follow("nightly", run_id, RunState.RUNNING)
    assert open_fires(app) == {marked(run_id)}
    stop(app, "nightly", [marked(run_id)], stop_tasks=lambda ids: None)
    assert open_fires(app) == set()


def test_with_redis_away_a_run_goes_on_uncounted(app: Celery, tw: TimeWheel, diary: Diary, caplog: pytest.LogCaptureFixture) -> None:
    app.conf.tw_redis_url = "redis://127.0.0.1:1/0"
    with working(app):
        assert fire(app, tw, a="").wait(TIMEOUT_S).state == "succeeded"
    assert "are not counted as they should be" in caplog.text
