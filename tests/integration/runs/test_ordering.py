"""An order goes on whatever becomes of its head, with a worker and a leader in this process."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from celery import Celery

import celery_tw
import celery_tw.runtime.ordering
from celery_tw import TimeWheel
from celery_tw.integration.node import Node
from celery_tw.integration.runs.runner import runner_of
from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.redis.runs.claim import Claim
from celery_tw.stores.redis.runs.right import Right
from tests.stock_worker import stock_worker
from tests.waiting import wait_until

MakeApp = Callable[..., Celery]
KEYS = Keys("shop")
TIMEOUT_S = 10


@pytest.fixture
def app(make_app: MakeApp) -> Celery:
    return make_app(tw_defer_eta="always")


@contextmanager
def working(app: Celery, *, concurrency: int = 4) -> Iterator[None]:
    node = Node(app)
    node.start()
    try:
        wait_until(node.elector.leads, message="this process to lead")
        with stock_worker(app, pool="threads", concurrency=concurrency, shutdown_timeout=TIMEOUT_S):
            yield
    finally:
        node.close()


class Order:
    """A task whose runs have one order; what each does is told by its first argument."""

    def __init__(self, app: Celery) -> None:
        self.ran: list[str] = []
        self.begun, self.goes_on = threading.Event(), threading.Event()

        @app.task(base=celery_tw.LongTask, bind=True, shared=False, ordering_key="k", max_retries=None)
        def step(task: Any, what: str) -> str:
            self.ran.append(what)
            if what == "retries":
                raise task.retry(countdown=1000)
            if what == "fails":
                raise ValueError(what)
            if what == "waits":
                self.begun.set()
                for _ in task.iterate(iter(lambda: self.goes_on.wait(0.01), True), {}, every=1):
                    pass
            return what

        self.step = step


@pytest.fixture
def order(app: Celery) -> Iterator[Order]:
    order = Order(app)
    yield order
    order.goes_on.set()


def test_while_the_head_runs_the_next_one_waits(app: Celery, order: Order, redis_client: redis.Redis) -> None:
    with working(app):
        first, second = order.step.delay("waits"), order.step.delay("next")
        assert order.begun.wait(TIMEOUT_S)
        wait_until(lambda: redis_client.zcard(KEYS.due) == 1, message="the second to be parked")
        assert order.ran == ["waits"]
        order.goes_on.set()
        assert (first.get(timeout=TIMEOUT_S), second.get(timeout=TIMEOUT_S)) == ("waits", "next")


def test_a_head_that_is_cancelled_while_it_runs_lets_the_next_one_go(app: Celery, order: Order) -> None:
    with working(app):
        first, second = order.step.delay("waits"), order.step.delay("next")
        assert order.begun.wait(TIMEOUT_S)
        assert TimeWheel(app).cancel(first.id).stopping
        assert second.get(timeout=TIMEOUT_S) == "next"
        assert first.state == "REVOKED"


def test_a_head_that_is_cancelled_in_its_queue_lets_the_next_one_go(app: Celery, order: Order) -> None:
    app.conf.worker_prefetch_multiplier = 1

    @app.task(shared=False, acks_late=True)
    def occupy() -> None:
        order.begun.set()
        order.goes_on.wait(TIMEOUT_S)

    with working(app, concurrency=1):
        occupy.delay()
        assert order.begun.wait(TIMEOUT_S)
        first, second = order.step.delay("first"), order.step.delay("next")
        TimeWheel(app).cancel(first.id)
        wait_until(lambda: first.id in revoked_ids(), message="the worker to hear of it")
        order.goes_on.set()
        assert second.get(timeout=TIMEOUT_S) == "next"
    assert order.ran == ["next"]


def revoked_ids() -> Any:
    from celery.worker.state import revoked  # noqa: PLC0415 - it takes the worker with it

    return revoked


def test_a_head_that_is_cancelled_while_its_retry_waits_lets_the_next_one_go(app: Celery, order: Order) -> None:
    with working(app):
        first = order.step.delay("retries")
        wait_until(lambda: first.state == "RETRY")
        second = order.step.delay("next")
        wait_until(lambda: TimeWheel(app).status().waiting == 2, message="both to wait")
        assert TimeWheel(app).cancel(first.id).found
        assert second.get(timeout=TIMEOUT_S) == "next"
    assert order.ran == ["retries", "next"]


def test_a_head_that_expires_lets_the_next_one_go(app: Celery, order: Order) -> None:
    first, second = order.step.apply_async(("first",), expires=0.001), order.step.delay("next")
    with working(app):
        assert second.get(timeout=TIMEOUT_S) == "next"
        wait_until(lambda: first.state == "REVOKED")
    assert order.ran == ["next"]


def test_a_head_that_fails_lets_the_next_one_go(app: Celery, order: Order) -> None:
    with working(app):
        first, second = order.step.delay("fails"), order.step.delay("next")
        assert second.get(timeout=TIMEOUT_S) == "next"
        wait_until(lambda: first.state == "FAILURE")
    assert order.ran == ["fails", "next"]


@pytest.mark.parametrize("end", ["cancelled", "failed", "retried", "done"])
def test_an_order_goes_on_whatever_becomes_of_its_head(app: Celery, end: str) -> None:
    runs, guard = runner_of(app).runs, celery_tw.runtime.ordering.turn("k")
    for mid in ("head", "next"):
        runs.sends.draw_number("k", mid)

    def claim(mid: str) -> Any:
        return Claim(mid=mid, owner=f"p:{mid}", task="t", task_id=mid, guards=[guard])

    assert runs.acquire(claim("next")).verdict == "wait"
    runs.finish(Right.of_owner(""), end, mid="head", task_id="head", guards=[guard])
    assert runs.acquire(claim("next")).verdict == "run"


def test_a_head_that_does_not_start_is_passed_over(app: Celery) -> None:
    runs, guard = runner_of(app).runs, celery_tw.runtime.ordering.turn("k", patience_ms=1)
    runs.sends.draw_number("k", "lost")
    claim = Claim(mid="next", owner="p", task="t", task_id="next", guards=[guard])
    passed = []

    def starts() -> bool:
        answer = runs.acquire(claim)
        passed.extend(answer.passed_over)
        return answer.verdict == "run"

    wait_until(starts)
    assert passed == ["lost"]
