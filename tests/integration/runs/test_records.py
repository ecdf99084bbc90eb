"""Guarded tasks in a worker of threads: what is on record of a run, and what a second copy of a message finds."""

from collections.abc import Callable
from typing import Any

import pytest
import redis
from celery import Celery, chain, chord

import celery_tw
from celery_tw.integration.runs.run_headers import mid_of
from celery_tw.integration.runs.runner import runner_of
from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.redis.runs.claim import Claim
from celery_tw.stores.redis.runs.right import Right
from tests.stock_worker import runs_tasks_with_an_eta, working
from tests.waiting import wait_until

MakeApp = Callable[..., Celery]
KEYS = Keys("shop")
TIMEOUT_S = 10


@pytest.fixture
def app(make_app: MakeApp) -> Celery:
    return make_app()


def keys_left(client: redis.Redis) -> set[str]:
    """Return the names of our keys that hold more than memories of finished runs."""
    names = {key.decode().removeprefix(KEYS.tag + ":") for key in client.keys(KEYS.tag + ":*")}
    return {name for name in names if not name.startswith("done:")} - {"token", "seq", "project", "schema", "news", "news-seq"}


def test_a_guarded_task_gives_its_result_and_leaves_nothing_but_a_digest(app: Celery, redis_client: redis.Redis) -> None:
    @app.task(base=celery_tw.Task, shared=False, lock="add:{x}", max_concurrency=3)
    def add(x: int, y: int) -> int:
        return x + y

    with working(app):
        assert add.delay(1, 2).get(timeout=TIMEOUT_S) == 3
        wait_until(lambda: not keys_left(redis_client), message="the run to be finished")


def test_canvas_works_as_ever(app: Celery) -> None:
    @app.task(base=celery_tw.Task, shared=False)
    def add(x: Any, y: int = 0) -> int:
        return (sum(x) if isinstance(x, list) else x) + y

    with working(app):
        assert chain(add.s(1, 2), add.s(3), app=app).apply_async().get(timeout=TIMEOUT_S) == 6
        assert chord([add.s(1, 2), add.s(3, 4)], app=app)(add.s(5)).get(timeout=TIMEOUT_S) == 15


def test_a_second_copy_of_a_message_is_dropped(app: Celery, redis_client: redis.Redis) -> None:
    ran = []

    @app.task(base=celery_tw.Task, bind=True, shared=False)
    def once(self: Any) -> None:
        ran.append(mid_of(self.request))

    once.delay()
    (message,) = redis_client.lrange("celery", 0, -1)
    redis_client.lpush("celery", message.replace(b'"delivery_tag": "', b'"delivery_tag": "copy-'))
    with working(app, concurrency=1):
        wait_until(lambda: redis_client.llen("celery") == 0 and ran)
        wait_until(lambda: redis_client.hlen("unacked") == 0, message="both copies to be acknowledged")
    assert len(ran) == 1


def test_a_copy_that_finds_a_result_passes_it_on_without_the_body(app: Celery) -> None:
    ran = []

    @app.task(base=celery_tw.Task, bind=True, shared=False)
    def body(self: Any) -> str:
        ran.append(self.request.id)
        return "again"

    runs = runner_of(app).runs
    claim = Claim(mid="m", owner="gone:1:x", task=body.name, task_id="t")
    token = runs.acquire(claim).token
    assert runs.ran("m", token, b'"at first"')
    runs.client.delete(KEYS.lease("m"))
    body.push_request(id="t", tw_mid="m", called_directly=False, is_eager=False)
    try:
        assert body() == "at first"
        celery_signals_end(body)
    finally:
        body.pop_request()
    assert ran == []
    assert runs.acquire(claim).verdict == "done"


@pytest.mark.parametrize("fails", [False, True])
def test_a_process_that_lost_its_run_gives_the_message_back_for_it_may_be_the_only_copy(app: Celery, fails: bool) -> None:
    ran = []

    @app.task(base=celery_tw.Task, bind=True, shared=False)
    def paused_at_first(self: Any) -> int:
        ran.append(self.request.id)
        if len(ran) == 1:
            mid = mid_of(self.request)
            runner_of(app).runs.finish(Right.of_owner(""), "lost", mid=mid, task_id=self.request.id)
            if fails:
                raise ValueError("what the process makes of the task after that counts for nothing")
        return len(ran)

    with working(app):
        assert paused_at_first.delay().get(timeout=TIMEOUT_S) == 2


def celery_signals_end(task: Any) -> None:
    runner_of(task.app).end(task, task.request.tw_run, "SUCCESS", None)


@runs_tasks_with_an_eta
def test_a_retry_is_a_run_of_its_own(app: Celery) -> None:
    @app.task(base=celery_tw.Task, bind=True, shared=False, max_retries=3)
    def flaky(self: Any) -> int:
        if self.request.retries < 2:
            raise self.retry(countdown=0)
        return int(self.request.retries)

    with working(app):
        assert flaky.delay().get(timeout=TIMEOUT_S) == 2
