"""Guards in a worker of threads: who waits, who is refused, who has another's result."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import redis
from celery import Celery
from celery.exceptions import TaskRevokedError

import celery_tw
from celery_tw import LockBusy
from celery_tw.integration.runs.runner import runner_of
from celery_tw.stores.redis.election import Election
from celery_tw.stores.redis.keys import Keys
from tests.stock_worker import working
from tests.waiting import wait_until

MakeApp = Callable[..., Celery]
KEYS = Keys("shop")
TIMEOUT_S = 10


@pytest.fixture
def app(make_app: MakeApp) -> Celery:
    return make_app()


@pytest.mark.parametrize(("busy", "error"), [("fail", LockBusy), ("skip", TaskRevokedError)])
def test_a_held_lock_makes_a_task_fail_or_skip_as_it_says(app: Celery, redis_client: redis.Redis, busy: str, error: type) -> None:
    @app.task(base=celery_tw.Task, shared=False, lock="k", lock_busy=busy)
    def locked() -> None:
        """Do nothing."""

    redis_client.set(KEYS.guard("lock", "k"), "another run")
    with working(app), pytest.raises(error):
        locked.delay().get(timeout=TIMEOUT_S)


@pytest.mark.parametrize(("busy", "error"), [("fail", LockBusy), ("skip", TaskRevokedError)])
def test_a_long_task_that_a_held_lock_has_ended_leaves_nothing_for_the_leader_to_start(
    app: Celery, redis_client: redis.Redis, busy: str, error: type
) -> None:
    @app.task(base=celery_tw.LongTask, shared=False, lock="k", lock_busy=busy)
    def locked() -> None:
        """Do nothing."""

    Election(redis_client, KEYS).acquire("a leader", lease_ms=60_000)
    redis_client.set(KEYS.guard("lock", "k"), "another run")
    with working(app), pytest.raises(error):
        locked.delay().get(timeout=TIMEOUT_S)
    assert not redis_client.exists(KEYS.running, *redis_client.keys(f"{KEYS.tag}:run:*"))


@pytest.mark.parametrize("options", [{"lock": "k"}, {"max_concurrency": 1}, {"ordering_key": "k"}])
def test_a_task_that_finds_its_place_taken_is_parked_and_hurried_when_it_is_free(
    app: Celery, redis_client: redis.Redis, options: dict[str, Any]
) -> None:
    goes_on, began = threading.Event(), threading.Event()

    @app.task(base=celery_tw.Task, shared=False, **options)
    def alone(wait: bool) -> None:
        if wait:
            began.set()
            assert goes_on.wait(TIMEOUT_S)

    with working(app):
        alone.delay(True)
        assert began.wait(TIMEOUT_S)
        alone.delay(False)
        wait_until(lambda: redis_client.zcard(KEYS.due) == 1, message="the second to be parked")
        ((_, parked_until_ms),) = redis_client.zrange(KEYS.due, 0, -1, withscores=True)
        goes_on.set()
        wait_until(lambda: redis_client.zrange(KEYS.due, 0, -1, withscores=True)[0][1] < parked_until_ms, message="it to be hurried")


def test_a_second_task_with_an_idempotency_key_has_the_result_of_the_first(app: Celery) -> None:
    ran = []

    @app.task(base=celery_tw.Task, shared=False, idempotency_key="{order}")
    def pay(order: int, amount: int) -> int:
        ran.append(amount)
        return amount

    with working(app):
        assert pay.delay(1, 10).get(timeout=TIMEOUT_S) == 10
        wait_until(lambda: runner_of(app).runs.client.hget(KEYS.guard("idem", f"{pay.name}:1"), "result"))
        assert pay.delay(1, 20).get(timeout=TIMEOUT_S) == 10
    assert ran == [10]


def test_a_unique_task_is_sent_once_while_it_waits(app: Celery, redis_client: redis.Redis) -> None:
    @app.task(base=celery_tw.Task, shared=False, unique="{0}")
    def refresh(page: str) -> str:
        return page

    first, second, other = refresh.delay("a"), refresh.delay("a"), refresh.delay("b")
    assert first.id == second.id != other.id
    assert redis_client.llen("celery") == 2
    with working(app):
        first.get(timeout=TIMEOUT_S)
        wait_until(lambda: refresh.delay("a").id != first.id, message="the key to be given back")
