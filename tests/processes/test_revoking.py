"""Revoking with real workers: whoever revokes, and however, what waits in the timetable is taken off, and what is on its way ends once."""

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from celery.result import AsyncResult
from kombu import Connection
from kombu.exceptions import OperationalError
from pytest_celery import CeleryWorkerCluster

from celery_tw import TimeWheel
from celery_tw.embedded import EmbeddedServer
from celery_tw.integration.cancellation import cancelling
from tests.closing import close
from tests.processes.nodes import Worker
from tests.processes.processes import Processes
from tests.processes.stage import Stage, now_ms
from tests.waiting import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

HOUR = 3600
ALWAYS = {"tw_defer_eta": "always", "tw_defer_min_delay": 0}


@pytest.fixture
def pools() -> list[str]:
    """The pools of the workers, of an app with the plug-in."""
    return ["solo", "threads"]


@pytest.fixture
def conf() -> dict[str, Any]:
    """What the workers and the client with the plug-in are configured with, besides broker and result backend."""
    return ALWAYS


@pytest.fixture
def celery_worker_cluster(processes: Processes, pools: list[str], conf: dict[str, Any]) -> CeleryWorkerCluster:
    workers = [Worker(processes.worker(module="deferring", pool=pool, conf=conf), None) for pool in pools]
    for worker in workers:
        worker.container.ready()
    return CeleryWorkerCluster(*workers)


@pytest.fixture
def client(stage: Stage, conf: dict[str, Any]) -> Iterator[Celery]:
    """A client with the plug-in. The stage's own app has none, as Flower's, as long as nobody asks for its time wheel."""
    app = _app(stage, **conf)
    TimeWheel(app)
    yield app
    close(app)


def _app(stage: Stage, **settings: Any) -> Celery:
    app = Celery("shop", set_as_current=False)
    app.conf.update({"broker_url": stage.processes.url, "result_backend": stage.processes.url, **settings})
    return app


def later(client: Celery, value: Any = 0, **options: Any) -> AsyncResult:
    return client.signature("shop.show", args=(value,)).apply_async(**{"countdown": HOUR, **options})


def moment(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)


def waiting(client: Celery) -> int:
    return TimeWheel(client).status().waiting


def assert_taken_off(client: Celery, result: AsyncResult, *, left: int) -> None:
    wait_until(lambda: waiting(client) == left, 20, message="the workers to take the task off")
    wait_until(lambda: result.state == "REVOKED", 10, message="the result to be revoked")


@pytest.mark.parametrize("pools", [["prefork"], ["threads"], ["solo"], ["solo", "prefork"]], ids="+".join)
def test_a_revoke_from_an_app_without_the_plug_in_reaches_the_timetable(stage: Stage, client: Celery) -> None:
    result, other = later(client), later(client)

    stage.app.control.revoke(result.id)

    assert_taken_off(client, result, left=1)
    assert other.state == "PENDING"


def test_terminate_and_stamped_headers_from_an_app_without_the_plug_in_reach_it_too(stage: Stage, client: Celery) -> None:
    terminated = later(client)
    signature = client.signature("shop.show", args=(1,))
    signature.stamp(stamped_headers=["customer"], customer="c7")
    stamped = signature.apply_async(countdown=HOUR)
    later(client)

    wait_until(lambda: len(stage.app.control.ping(timeout=1, limit=2)) == 2, 30, message="the workers to listen")
    arguments = {"signal": "TERM", "task_id": terminated.id}
    replies = stage.app.control.broadcast("terminate", arguments=arguments, reply=True, timeout=5, limit=2)
    assert_taken_off(client, terminated, left=2)
    more = stage.app.control.revoke_by_stamped_headers({"customer": ["c6", "c7"]}, reply=True, timeout=5, limit=2)
    assert_taken_off(client, stamped, left=1)

    assert {told["ok"] for reply in replies for told in reply.values()} == {"terminate: tasks unknown"}
    assert ["flagged as revoked" in told["ok"] for reply in more for told in reply.values()] == [True, True]


@pytest.mark.parametrize("module", ["shop", "deferring"])
def test_the_command_line_reaches_the_timetable_with_and_without_the_plug_in(stage: Stage, client: Celery, module: str) -> None:
    results = [later(client) for _ in range(3)]

    command = stage.processes.celery("control", "control", "revoke", *(result.id for result in results), module=module)

    assert command.wait(30) == 0
    for result in results:
        assert_taken_off(client, result, left=0)
    assert "flagged as revoked" in command.logs()


def test_many_ids_are_revoked_in_one_call(stage: Stage, client: Celery) -> None:
    results = [later(client, number) for number in range(500)]

    stage.app.control.revoke([result.id for result in results[:450]])

    assert_taken_off(client, results[449], left=50)
    assert results[450].state == "PENDING"


each_way_to_revoke = pytest.mark.parametrize(
    "revoke", [AsyncResult.revoke, lambda result: TimeWheel(result.app).cancel(result.id)], ids=["revoke", "cancel"]
)


@each_way_to_revoke
def test_a_task_that_is_revoked_while_it_is_fired_is_taken_off_or_handed_on_and_never_lost(
    stage: Stage, client: Celery, conf: dict[str, Any], revoke: Callable[[AsyncResult], Any], caplog: pytest.LogCaptureFixture
) -> None:
    stage.start_beats(1, module="deferring", conf=conf)
    far_away = [later(client) for _ in range(10)]
    first_ms = now_ms() + 2000
    results = [later(client, number, countdown=None, eta=moment(first_ms + 10 * number)) for number in range(300)]

    with caplog.at_level(logging.INFO, logger=cancelling.__name__):
        for number, result in enumerate(results):
            wait_until(lambda due_ms=first_ms + 10 * number: now_ms() >= due_ms - 5)
            revoke(result)
        for result in far_away:
            revoke(result)

    wait_until(lambda: all(result.ready() for result in results), 30, message="each task to have ended")
    wait_until(lambda: waiting(client) == 0, 10)
    runs = [line.task_id for line in stage.ledger.lines()]
    taken = {result.id for result in far_away + results if f"task {result.id} was taken off" in caplog.text}
    assert {result.id for result in far_away} <= taken
    assert len(taken) < len(far_away + results)
    assert len(runs) == len(set(runs))
    assert not taken & set(runs)
    assert {result.id for result in results if result.state != "REVOKED"} <= set(runs)


def test_a_task_sent_with_the_id_of_a_cancelled_one_runs(stage: Stage, client: Celery) -> None:
    stage.start_beats(1, module="deferring", conf=ALWAYS)
    later(client, "first", task_id="again")
    assert TimeWheel(client).cancel("again").found

    later(client, "second", task_id="again", countdown=0.5)

    wait_until(lambda: stage.ledger.lines(), 20, message="the second task to run")
    wait_until(lambda: client.AsyncResult("again").state == "SUCCESS", 10)
    assert client.AsyncResult("again").get(timeout=5)["value"] == "second"


def test_a_retry_that_waits_is_cancelled(stage: Stage, client: Celery) -> None:
    stage.start_beats(1, module="deferring", conf=ALWAYS)
    result = client.signature("shop.flaky", args=(3, HOUR)).apply_async()
    wait_until(lambda: waiting(client) == 1 and result.state == "RETRY", 20, message="the task to have failed once")

    cancelled = TimeWheel(client).cancel(result.id)

    assert [task.task for task in cancelled.waiting] == ["shop.flaky"]
    assert result.state == "REVOKED"


def test_while_redis_is_away_a_revoke_does_what_it_does_in_celery_and_afterwards_all_of_it(
    stage: Stage, client: Celery, server: EmbeddedServer, caplog: pytest.LogCaptureFixture
) -> None:
    result = later(client)
    server.kill()
    with pytest.raises(OperationalError):
        stage.app.control.revoke(result.id)
    with pytest.raises(OperationalError):
        client.control.revoke(result.id)
    assert "the timetable was not asked, only the workers are: StoreUnavailable" in caplog.text

    server.restart()
    wait_until(lambda: len(stage.app.control.ping(timeout=1, limit=2)) == 2, 30, message="the workers to be back")
    stage.app.control.revoke(result.id)

    assert_taken_off(client, result, left=0)


class TestOverRabbitMQ:
    """The messages are in RabbitMQ, the timetable is in Redis."""

    @pytest.fixture
    def result_backend(self, server: EmbeddedServer) -> str | None:
        return server.url

    @pytest.fixture
    def conf(self, rabbitmq_url: str, server: EmbeddedServer, result_backend: str | None) -> Iterator[dict[str, Any]]:
        queue = f"revoking-{uuid4()}"
        brokers = {"broker_url": rabbitmq_url, "tw_redis_url": server.url, "result_backend": result_backend}
        yield {**ALWAYS, **brokers, "task_default_queue": queue}
        with Connection(rabbitmq_url) as connection:
            connection.default_channel.queue_delete(queue)

    @pytest.fixture
    def flower(self, stage: Stage, conf: dict[str, Any]) -> Iterator[Celery]:
        """An app without the plug-in on the same broker."""
        app = Celery("shop", broker=conf["broker_url"], set_as_current=False)
        yield app
        close(app)

    def test_a_revoke_reaches_the_timetable(self, client: Celery, flower: Celery) -> None:
        results = [later(client, number) for number in range(3)]
        assert waiting(client) == 3

        flower.control.revoke(results[0].id)
        wait_until(lambda: waiting(client) == 2, 20, message="the workers to take the task off")
        client.control.revoke(results[1].id)
        assert waiting(client) == 1
        assert TimeWheel(client).cancel(results[2].id).found

    @each_way_to_revoke
    def test_a_task_that_is_revoked_while_it_is_fired_is_taken_off_or_handed_on_and_never_lost(
        self,
        stage: Stage,
        client: Celery,
        conf: dict[str, Any],
        revoke: Callable[[AsyncResult], Any],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        test_a_task_that_is_revoked_while_it_is_fired_is_taken_off_or_handed_on_and_never_lost(stage, client, conf, revoke, caplog)

    @pytest.mark.parametrize("result_backend", [None])
    def test_while_redis_is_away_the_workers_revoke_all_the_same(
        self, stage: Stage, client: Celery, flower: Celery, server: EmbeddedServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        server.kill()

        for app in (client, flower):
            replies = app.control.revoke([f"{app is client}-{number}" for number in range(3)], reply=True, timeout=10, limit=2)
            assert ["flagged as revoked" in told["ok"] for reply in replies for told in reply.values()] == [True, True]
        for number in range(3):
            flower.control.revoke(f"one by one {number}")

        assert "revoke: the timetable was not asked, only the workers are: StoreUnavailable" in caplog.text
        for worker in stage.worker_cluster:
            wait_until(lambda log=worker.logs: "Tasks flagged as revoked: one by one 2" in log(), 10)
            assert "the timetable was not asked, only the workers are: StoreUnavailable" in worker.logs()
            assert "it did not answer less than 5 s ago" in worker.logs()
