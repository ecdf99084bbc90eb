"""Deferral where something is missing or different: no leader, a leader that goes for good, spawned children, rpc, the way out."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from celery import Celery

from celery_tw import TimeWheel
from celery_tw.embedded import EmbeddedServer
from celery_tw.stores.redis.keys import Keys
from celery_tw.testing.ledger import Ledger, Line
from celery_tw.testing.rabbit_server import RabbitServer
from tests.closing import close
from tests.processes.container import ProcessContainer
from tests.processes.processes import Processes
from tests.waiting import wait_until

pytestmark = pytest.mark.processes

SETTINGS = {"tw_defer_min_delay": 0.5, "tw_leaderless_grace": 1}
KEYS = Keys("shop")
TIMEOUT_S = 30


@pytest.fixture
def client(server: EmbeddedServer) -> Iterator[Celery]:
    app = Celery("shop", broker=server.url, backend=server.url, set_as_current=False)
    app.conf.update(SETTINGS)
    TimeWheel(app)
    yield app
    close(app)


@pytest.fixture
def queues(server: EmbeddedServer) -> Iterator[redis.Redis]:
    """A client of the server, to look into it."""
    with server.client() as client:
        yield client


@pytest.fixture
def ledger(processes: Processes) -> Ledger:
    return Ledger(processes.ledger)


def runs(ledger: Ledger, number: int) -> list[Line]:
    """Return the lines of the ledger when there are *number*."""
    wait_until(lambda: len(ledger.lines()) >= number, TIMEOUT_S, message=f"{number} runs")
    return ledger.lines()


def start_worker(processes: Processes, *options: str, **settings: Any) -> ProcessContainer:
    worker = processes.worker(*options, **{"module": "deferring", "conf": SETTINGS, **settings})
    worker.ready()
    return worker


def start_beat(processes: Processes, client: Celery, **settings: Any) -> ProcessContainer:
    beat = processes.beat(module="deferring", conf={**SETTINGS, **settings})
    wait_until(lambda: TimeWheel(client).status().leader, 20, message="the beat to lead")
    return beat


def goes_out(client: Celery) -> bool:
    """Send a task an hour ahead, and return whether it went out with Celery's own ETA."""
    counts = TimeWheel(client).deferral.fallbacks.counts
    before = counts["leaderless"]
    client.send_task("shop.record", countdown=3600, queue="elsewhere", expires=3600)
    return counts["leaderless"] > before


def test_without_any_beat_a_task_waits_in_a_worker_as_ever(processes: Processes, client: Celery, ledger: Ledger) -> None:
    start_worker(processes)

    assert client.send_task("shop.show", countdown=1).get(timeout=TIMEOUT_S)["eta"] is not None
    assert client.send_task("shop.flaky", (2, 1.0)).get(timeout=TIMEOUT_S) == 2

    assert {line.value["tw_eta"] for line in runs(ledger, 4)} == {None}


def test_retries_run_on_after_beat_was_stopped_for_good(processes: Processes, client: Celery, ledger: Ledger) -> None:
    start_worker(processes)
    beat = start_beat(processes, client)
    assert client.send_task("shop.flaky", (1, 1.0)).get(timeout=TIMEOUT_S) == 1
    assert runs(ledger, 2)[1].value["tw_eta"] is not None

    beat.teardown()
    wait_until(lambda: goes_out(client), TIMEOUT_S, message="the client to find no leader")

    assert client.send_task("shop.flaky", (2, 1.0)).get(timeout=TIMEOUT_S) == 2
    assert {line.value["tw_eta"] for line in runs(ledger, 5)[2:]} == {None}


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_retry_made_in_a_child_waits_in_the_timetable(processes: Processes, client: Celery, ledger: Ledger, method: str) -> None:
    start_worker(processes, "-c", "2", pool="prefork", conf={**SETTINGS, "worker_pool_start_method": method})
    start_beat(processes, client)

    assert client.send_task("shop.flaky", (2, 1.0)).get(timeout=TIMEOUT_S) == 2

    first, *retried = runs(ledger, 3)
    assert first.value["tw_eta"] is None
    assert all(line.value["tw_eta"] and line.value["eta"] is None for line in retried)


def test_a_result_by_rpc_reaches_the_client_that_sent_the_task(processes: Processes, client: Celery, server: EmbeddedServer) -> None:
    start_worker(processes, conf={**SETTINGS, "result_backend": "rpc://"})
    start_beat(processes, client)
    caller = Celery("shop", broker=server.url, backend="rpc://", set_as_current=False)
    caller.conf.update(SETTINGS)
    TimeWheel(caller)

    told = caller.send_task("shop.show", (7,), countdown=1).get(timeout=TIMEOUT_S)

    assert (told["value"], told["eta"]) == (7, None)
    assert told["tw_eta"] is not None
    caller.close()


def test_a_task_that_is_late_fires_all_the_same(processes: Processes, client: Celery, queues: redis.Redis) -> None:
    client.conf.tw_defer_eta = "always"
    result = client.send_task("shop.show", (7,), countdown=1)
    hour_ago_ms = time.time_ns() // 1_000_000 - 3_600_000
    (member,) = queues.zrange(KEYS.due, 0, -1)
    queues.zadd(KEYS.due, {member: hour_ago_ms})

    start_worker(processes)
    start_beat(processes, client)

    assert result.get(timeout=TIMEOUT_S)["value"] == 7


def test_after_eject_a_project_without_the_plug_in_runs_every_waiting_task(
    processes: Processes, client: Celery, ledger: Ledger, queues: redis.Redis
) -> None:
    client.conf.tw_defer_eta = "always"
    results = [client.send_task("shop.add", (number, 0), countdown=3) for number in range(20)]
    assert queues.zcard(KEYS.due) == 20

    ejecting = processes.celery("eject", "tw", "eject", "--yes", module="deferring", conf=SETTINGS)
    assert ejecting.wait() == 0, ejecting.logs()
    queues.delete(*queues.keys(f"{KEYS.tag}*"))
    start_worker(processes, module="shop")

    assert sorted(result.get(timeout=TIMEOUT_S) for result in results) == list(range(20))
    assert {line.task_id for line in runs(ledger, 20)} == {result.id for result in results}
    assert len(ledger.lines()) == 20


@pytest.fixture
def quorum(server: EmbeddedServer, rabbit_server: RabbitServer) -> dict[str, Any]:
    """The settings of an app whose queue is a quorum queue, where Celery has tasks with an ETA delayed by RabbitMQ itself."""
    return {
        **SETTINGS,
        "broker_url": rabbit_server.url,
        "tw_redis_url": server.url,
        "task_default_queue": "important",
        "task_default_queue_type": "quorum",
        "task_default_exchange_type": "topic",
    }


def test_tasks_for_quorum_queues_wait_in_the_timetable_or_without_a_leader_in_rabbitmq(
    processes: Processes, client: Celery, ledger: Ledger, quorum: dict[str, Any]
) -> None:
    client.conf.update(quorum)
    start_worker(processes, conf=quorum)

    without = client.send_task("shop.show", countdown=1).get(timeout=TIMEOUT_S)
    assert (without["eta"] is not None, without["tw_eta"]) == (True, None)

    start_beat(processes, client, **quorum)
    told = client.send_task("shop.show", countdown=1).get(timeout=TIMEOUT_S)
    assert (told["eta"], told["tw_eta"] is not None) == (None, True)
    assert client.send_task("shop.flaky", (2, 1.0)).get(timeout=TIMEOUT_S) == 2
    assert all(line.value["tw_eta"] for line in runs(ledger, 5)[3:])
