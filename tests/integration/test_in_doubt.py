"""A task of which nobody can say whether it was stored: it goes out, both copies have one mid, and a guarded task runs once."""

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis
from celery import Celery

import celery_tw
from celery_tw import TimeWheel
from celery_tw.embedded import EmbeddedServer
from tests.closing import close
from tests.running import running_server
from tests.stock_worker import runs_tasks_with_an_eta, stock_worker
from tests.waiting import wait_until


@pytest.fixture
def store(redis_server: EmbeddedServer) -> Iterator[EmbeddedServer]:
    """The Redis of the timetable, apart from the broker's. (*redis_server* settles whether there can be one.)"""
    with running_server() as store:
        yield store


@pytest.fixture
def bodies() -> Counter[str]:
    """How often the body of each task ran."""
    return Counter()


@pytest.fixture
def shop(redis_url: str, store: EmbeddedServer, bodies: Counter[str]) -> Iterator[Celery]:
    """An app with a plain task and a guarded one."""
    app = Celery("shop", broker=redis_url, set_as_current=False)
    app.conf.update(tw_defer_eta="always", tw_defer_min_delay=0, task_ignore_result=True, tw_redis_url=store.url)
    TimeWheel(app)

    @app.task(name="plain", shared=False)
    def plain() -> None:
        bodies["plain"] += 1

    @app.task(name="guarded", base=celery_tw.Task, shared=False)
    def guarded() -> None:
        bodies["guarded"] += 1

    yield app
    close(app)


@contextmanager
def frozen(server: EmbeddedServer) -> Iterator[None]:
    """Let *server* stand still."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


@runs_tasks_with_an_eta
@pytest.mark.parametrize(("task", "runs"), [("plain", 2), ("guarded", 1)])
def test_a_task_that_a_frozen_store_takes_after_all_is_sent_twice_and_a_guarded_one_runs_once(
    task: str, runs: int, shop: Celery, store: EmbeddedServer, redis_client: redis.Redis, bodies: Counter[str]
) -> None:
    wheel = TimeWheel(shop)
    shop.tasks[task].apply_async(countdown=3600)
    with frozen(store):
        result = shop.tasks[task].apply_async(countdown=0.5)
    wait_until(lambda: wheel.canceller.waiting(result.id), message="the store to take what it was sent before it stood still")
    assert wheel.deferral.fallbacks.counts == {"in doubt": 1}

    assert wheel.eject().ejected == 2
    headers = [json.loads(message)["headers"] for message in redis_client.lrange("celery", 0, -1)]
    copies = [each for each in headers if each["id"] == result.id]
    assert len(copies) == 2
    assert len({copy["tw_mid"] for copy in copies}) == 1

    with stock_worker(shop, concurrency=1):
        wait_until(lambda: bodies[task] >= runs, message="the copies to be run")
        shop.tasks["plain"].apply_async(queue="celery")
        others = 1 if task == "plain" else 0
        wait_until(lambda: bodies["plain"] > runs * others, message="what was sent after them to be run")
    assert bodies[task] == runs + others
