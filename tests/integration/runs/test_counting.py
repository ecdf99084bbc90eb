"""What a worker says of the tasks of an entry that may not overlap: which of them have not ended, as the leader sees it."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from celery import Celery, chain, chord
from celery.exceptions import Ignore, Reject
from celery.result import AsyncResult

import celery_tw
from celery_tw import TimeWheel
from celery_tw.integration.runs.counting import counting_of
from celery_tw.stores.redis.keys import Keys
from tests.stock_worker import runs_tasks_with_an_eta, working
from tests.waiting import wait_until

MakeApp = Callable[..., Celery]
KEYS = Keys("shop")
COUNTED = {"tw_counted": True, "periodic_task_name": "tick"}
TIMEOUT_S = 10


@pytest.fixture
def app(make_app: MakeApp) -> Celery:
    app = make_app(tw_heartbeat_interval=0.1, tw_heartbeat_timeout=2)
    TimeWheel(app)
    return app


def open_tasks(app: Celery) -> dict[str, str]:
    """Return the state of each task that has not ended, by id."""
    facts = counting_of(app).open_fires.client.hgetall(KEYS.open_fires("tick"))
    return {task_id.decode(): fact.decode().split()[0] for task_id, fact in facts.items()}


def fired(app: Celery) -> dict[str, Any]:
    """Count a task as open, as its fire does; return the options to send it with."""
    counting_of(app).open_fires.queue("tick", "t", kept_ms=60_000)
    return {"task_id": "t", "headers": COUNTED}


def until_none_is_open(app: Celery) -> None:
    wait_until(lambda: not open_tasks(app), message="every task to have ended")


class Gate:
    """A task's body that waits until it may go on."""

    def __init__(self) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.entered.set()
        assert self.opened.wait(TIMEOUT_S)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.opened.set()


@pytest.mark.parametrize("base", [None, celery_tw.Task])
def test_a_task_is_queued_then_runs_then_is_gone(app: Celery, gate: Gate, base: Any) -> None:
    @app.task(shared=False, **({"base": base} if base else {}))
    def work() -> None:
        gate()

    result = work.apply_async(headers=COUNTED)
    assert open_tasks(app) == {result.id: "queued"}
    with working(app):
        assert gate.entered.wait(TIMEOUT_S)
        assert open_tasks(app) == {result.id: "running"}
        gate.opened.set()
        until_none_is_open(app)


def test_a_running_task_is_kept_open_for_as_long_as_it_runs(app: Celery, gate: Gate) -> None:
    @app.task(shared=False)
    def work() -> None:
        gate()

    with working(app):
        result = work.apply_async(headers=COUNTED)
        assert gate.entered.wait(TIMEOUT_S)
        client = counting_of(app).open_fires.client
        first = client.hget(KEYS.open_fires("tick"), result.id)
        wait_until(lambda: client.hget(KEYS.open_fires("tick"), result.id) != first, message="it to be kept")


def test_other_tasks_are_not_counted(app: Celery) -> None:
    @app.task(shared=False)
    def work() -> None:
        """Do nothing."""

    with working(app):
        work.delay().get(timeout=TIMEOUT_S)
    assert "_tw_counting" not in vars(app)
    assert open_tasks(app) == {}


def test_a_failed_task_is_gone(app: Celery) -> None:
    @app.task(shared=False)
    def work() -> None:
        raise ValueError("no")

    with working(app):
        work.apply_async(**fired(app)).get(timeout=TIMEOUT_S, propagate=False)
        until_none_is_open(app)


def test_a_retry_is_the_same_task_and_open_until_it_has_ended(app: Celery) -> None:
    app.conf.tw_defer_eta = "always"

    @app.task(shared=False, bind=True)
    def work(self: Any) -> None:
        if not self.request.retries:
            raise self.retry(countdown=1000)

    with working(app):
        result = work.apply_async(headers=COUNTED)
        wait_until(lambda: result.state == "RETRY")
        wait_until(lambda: open_tasks(app) == {result.id: "queued"})
        until_ms = int(counting_of(app).open_fires.client.hget(KEYS.open_fires("tick"), result.id).split()[1])
        now_ms = counting_of(app).open_fires.client.time()[0] * 1000
        assert until_ms - now_ms > counting_of(app).settings.overlap_expires_ms + 900_000
        TimeWheel(app).cancel(result.id)
        until_none_is_open(app)


@runs_tasks_with_an_eta
def test_a_retry_that_runs_at_once_ends_the_task(app: Celery) -> None:
    @app.task(shared=False, bind=True)
    def work(self: Any) -> int:
        if not self.request.retries:
            raise self.retry(countdown=0)
        return 7

    with working(app):
        assert work.apply_async(headers=COUNTED).get(timeout=TIMEOUT_S) == 7
        until_none_is_open(app)


def test_a_task_that_replaces_another_is_open_in_its_place(app: Celery, gate: Gate) -> None:
    @app.task(shared=False, name="shop.other")
    def other() -> None:
        gate()

    @app.task(shared=False, bind=True)
    def work(self: Any) -> None:
        raise self.replace(other.s())

    with working(app):
        result = work.apply_async(headers=COUNTED)
        assert gate.entered.wait(TIMEOUT_S)
        assert open_tasks(app) == {result.id: "running"}
        gate.opened.set()
        until_none_is_open(app)


def test_a_chain_is_open_until_its_last_task_has_ended(app: Celery, gate: Gate) -> None:
    seen: list[bool] = []

    @app.task(shared=False)
    def first() -> int:
        return 1

    @app.task(shared=False)
    def last(_: int) -> None:
        gate()

    links = [first.s().set(headers=COUNTED), last.s().set(headers=COUNTED)]
    with working(app):
        result = chain(links, app=app).apply_async()
        while not gate.entered.wait(0.01):
            seen.append(bool(open_tasks(app)))
        assert all(seen), "at no moment was nothing open"
        wait_until(lambda: open_tasks(app) == {result.id: "running"})
        gate.opened.set()
        until_none_is_open(app)


def test_the_body_of_a_chord_is_open_when_its_parts_have_ended(app: Celery, gate: Gate) -> None:
    @app.task(shared=False)
    def part() -> int:
        return 1

    @app.task(shared=False)
    def body(_: list[int]) -> None:
        gate()

    with working(app):
        parts = [part.s().set(headers=COUNTED) for _ in range(3)]
        result = chord(parts, app=app)(body.s().set(headers=COUNTED))
        assert gate.entered.wait(TIMEOUT_S)
        wait_until(lambda: open_tasks(app) == {result.id: "running"})
        gate.opened.set()
        until_none_is_open(app)


@pytest.mark.parametrize("error", [Ignore(), Reject(requeue=False)], ids=repr)
def test_a_task_that_drops_its_message_is_gone(app: Celery, error: Exception) -> None:
    @app.task(shared=False)
    def work() -> None:
        raise error

    with working(app):
        work.apply_async(**fired(app))
        until_none_is_open(app)


def test_a_task_that_gives_its_message_back_is_open_until_it_is_run(app: Celery) -> None:
    runs: list[int] = []

    @app.task(shared=False, acks_late=True)
    def work() -> None:
        runs.append(1)
        if len(runs) == 1:
            raise Reject(requeue=True)

    with working(app):
        work.apply_async(headers=COUNTED)
        wait_until(lambda: len(runs) == 2)
        until_none_is_open(app)


@pytest.mark.parametrize("options", [{"expires": 0.001}, {}])
def test_a_task_that_never_runs_because_it_is_revoked_or_expired_is_gone(app: Celery, options: dict[str, Any]) -> None:
    @app.task(shared=False)
    def work() -> None:
        raise AssertionError

    result = work.apply_async(headers=COUNTED, **options)
    with working(app):
        if not options:
            wait_until(lambda: result.state != "PENDING" or app.control.revoke(result.id))
        until_none_is_open(app)


def test_a_task_that_its_worker_does_not_know_is_gone(app: Celery) -> None:
    with working(app):
        app.send_task("shop.unknown", **fired(app))
        until_none_is_open(app)


def test_a_guarded_task_is_open_while_it_is_parked(app: Celery, redis_client: redis.Redis) -> None:
    @app.task(base=celery_tw.Task, shared=False, lock="k")
    def work() -> None:
        """Do nothing."""

    redis_client.set(KEYS.guard("lock", "k"), "another run")
    with working(app):
        result = work.apply_async(headers=COUNTED)
        wait_until(lambda: redis_client.zcard(KEYS.due) == 1, message="it to be parked")
        wait_until(lambda: open_tasks(app) == {result.id: "queued"})


def test_a_guarded_task_that_skips_is_gone(app: Celery, redis_client: redis.Redis) -> None:
    @app.task(base=celery_tw.Task, shared=False, lock="k", lock_busy="skip")
    def work() -> None:
        """Do nothing."""

    redis_client.set(KEYS.guard("lock", "k"), "another run")
    with working(app):
        work.apply_async(**fired(app)).get(timeout=TIMEOUT_S, propagate=False)
        until_none_is_open(app)


def test_with_redis_away_a_task_runs_uncounted(app: Celery, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture) -> None:
    app.conf.tw_redis_url = "redis://127.0.0.1:1/0"

    @app.task(shared=False)
    def work() -> int:
        return 7

    with working(app):
        result: AsyncResult = work.apply_async(headers=COUNTED)
        assert result.get(timeout=TIMEOUT_S) == 7
    assert "is not counted as it should be" in caplog.text
