"""Nodes that wait before they are tried again, with a leader that lets them go in time."""

import time
from typing import Any

import pytest
import redis
from celery import Celery, chain

from celery_tw import DAG, TimeWheel
from celery_tw.stores.redis.keys import Keys
from tests.dags.conftest import Diary
from tests.dags.writing import TIMEOUT_S, leading, states, work, working
from tests.waiting import wait_until


@pytest.fixture
def tries(app: Celery) -> list[float]:
    """When ``shop.third_time`` began, in seconds; it fails twice."""
    app.conf.tw_defer_min_delay = 0.1
    tries: list[float] = []

    @app.task(name="shop.third_time", shared=False)
    def third_time(number: int) -> int:
        tries.append(time.monotonic())
        if len(tries) < 3:
            raise ValueError("not yet")
        return number

    return tries


def canvas_or_task(app: Celery, kind: str) -> Any:
    task = app.tasks["shop.third_time"].s(7)
    return task if kind == "task" else chain(task, app.tasks["shop.add"].s(10), app=app)


@pytest.mark.parametrize(("kind", "result"), [("task", 7), ("canvas", 17)])
def test_a_failed_node_is_sent_again_when_its_delay_is_over(
    app: Celery, tw: TimeWheel, diary: Diary, tries: list[float], kind: str, result: int
) -> None:
    with DAG("later") as dag:
        node = dag.node("third", canvas_or_task(app, kind), retries=2, retry_delay=0.3)
        dag.node("after", work(app, "after"), after=[node])
    with leading(app), working(app):
        run = tw.dags.submit(dag)
        assert run.wait(TIMEOUT_S).state == "succeeded"
    assert run.result("third") == result
    assert run.nodes()[0].attempt == 3
    assert tries[1] - tries[0] >= 0.3
    assert tries[2] - tries[1] >= 0.6


def test_until_then_it_waits_in_the_timetable_where_no_worker_holds_it(
    app: Celery, tw: TimeWheel, diary: Diary, tries: list[float], redis_client: redis.Redis
) -> None:
    with DAG("later") as dag:
        dag.node("third", canvas_or_task(app, "task"), retries=2, retry_delay=3600)
    with leading(app), working(app):
        run = tw.dags.submit(dag)
        wait_until(lambda: redis_client.zcard(Keys("shop").due) == 1, TIMEOUT_S)
        assert states(run) == {"third": "queued"}
        assert run.nodes()[0].attempt == 2
        run.cancel()
    assert len(tries) == 1
    assert run.status().state == "cancelled"


def test_a_leader_sends_what_nobody_let_go(app: Celery, tw: TimeWheel, diary: Diary, tries: list[float], redis_client: redis.Redis) -> None:
    with DAG("later") as dag:
        dag.node("third", canvas_or_task(app, "task"), retries=2, retry_delay=2)
    with leading(app), working(app):
        run = tw.dags.submit(dag)
        wait_until(lambda: redis_client.zcard(Keys("shop").due) == 1, TIMEOUT_S)
        redis_client.delete(Keys("shop").due)
        wait_until(lambda: len(tries) == 2, TIMEOUT_S, message="the leader to send it")
        run.cancel()
