"""Tasks with an ETA wait in the timetable: every way of sending one, on each broker, with real workers of each pool.

The worker and the beat are started once for each broker and pool; the tests tell their tasks apart by id.
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery, chain, chord, group
from celery.exceptions import TaskRevokedError
from celery.result import AsyncResult
from kombu import Connection

from celery_tw import TimeWheel
from celery_tw.embedded import EmbeddedServer
from celery_tw.testing.ledger import Ledger, Line
from tests.closing import close
from tests.processes.processes import Processes
from tests.running import running_server
from tests.waiting import wait_until

pytestmark = pytest.mark.processes

SETTINGS = {"tw_defer_min_delay": 0.5}
TIMEOUT_S = 30
CLOCK_ERROR_MS = 50
"""A client counts from the time of Redis as it last knew it."""


class Deployment:
    """A worker, a beat that leads, and a client of them."""

    def __init__(self, processes: Processes, *, pool: str, **settings: Any) -> None:
        self.conf = {**SETTINGS, **settings}
        self.processes = processes
        self.ledger = Ledger(processes.ledger)
        self.worker = processes.worker("-c", "2", pool=pool, module="deferring", conf=self.conf)
        self.beat = processes.beat(module="deferring", conf=self.conf)
        self.app = self.client()

    def client(self) -> Celery:
        app = Celery("shop", backend=self.processes.url, set_as_current=False)
        app.conf.update(self.conf)
        TimeWheel(app)
        return app

    def ready(self) -> "Deployment":
        self.worker.ready()
        self.beat.ready()
        wait_until(lambda: TimeWheel(self.app).status().leader, 20, message="the beat to lead")
        return self

    def task(self, name: str, *args: Any, **options: Any) -> Any:
        return self.app.signature(f"shop.{name}", args=args, options=options)

    def held_by_workers(self) -> list[Any]:
        """Return the tasks that a worker holds until their ETA."""
        return [each for held in (self.app.control.inspect(timeout=5).scheduled() or {}).values() for each in held]

    def runs_of(self, result: AsyncResult | str, number: int = 1) -> list[Line]:
        """Return the runs of a task's id, when there are *number* of them."""
        task_id = result if isinstance(result, str) else result.id

        def lines() -> list[Line]:
            return [line for line in self.ledger.lines() if line.task_id == task_id]

        wait_until(lambda: len(lines()) >= number, TIMEOUT_S, message=f"{number} runs of {task_id}")
        return lines()

    def run_of(self, result: AsyncResult) -> Line:
        """Return the one run of a task."""
        (line,) = self.runs_of(result)
        return line


@pytest.fixture(scope="module")
def server(redis_server: EmbeddedServer) -> Iterator[EmbeddedServer]:
    with running_server() as server:
        yield server


@pytest.fixture(scope="module", params=["redis", pytest.param("rabbitmq", marks=pytest.mark.long)])
def broker(request: pytest.FixtureRequest, server: EmbeddedServer) -> Iterator[dict[str, Any]]:
    """The settings of a broker; on RabbitMQ the queue is this module's own."""
    if request.param == "redis":
        yield {"broker_url": server.url}
        return
    url, queue = request.getfixturevalue("rabbitmq_url"), f"tw-{uuid4().hex}"
    yield {
        "broker_url": url,
        "tw_redis_url": server.url,
        "task_default_queue": queue,
        "task_queue_max_priority": 9,
    }
    with Connection(url) as connection:
        connection.default_channel.queue_delete(queue)


@pytest.fixture(scope="module", params=["prefork", "threads", "solo"])
def pool(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def processes(server: EmbeddedServer, broker: dict[str, Any], pool: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """What starts the worker and the beat of one *broker* and *pool*, and ends them before the next."""
    processes = Processes(tmp_path_factory.mktemp(pool), url=server.url)
    yield processes
    processes.end()


@pytest.fixture(scope="module")
def shop(processes: Processes, server: EmbeddedServer, broker: dict[str, Any], pool: str) -> Iterator[Deployment]:
    with server.client() as client:
        client.flushall()
    deployment = Deployment(processes, pool=pool, **broker).ready()
    yield deployment
    close(deployment.app)


def assert_deferred(line: Line, *, before_ms: int, delay_ms: int) -> None:
    """Assert that a run comes from the timetable, not before it was due, which was *delay_ms* after some moment since *before_ms*."""
    assert line.value["eta"] is None, "it waited in a worker"
    assert line.slot_ms == line.value["tw_eta"], "the task reads when it was due"
    assert line.at_ms >= line.value["tw_eta"] >= before_ms + delay_ms - CLOCK_ERROR_MS


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def test_a_countdown_waits_in_the_timetable_and_not_in_the_worker(shop: Deployment) -> None:
    before_ms = now_ms()
    result = shop.task("show", 7).apply_async(countdown=2)
    assert shop.held_by_workers() == []

    assert result.get(timeout=TIMEOUT_S)["value"] == 7

    assert_deferred(shop.run_of(result), before_ms=before_ms, delay_ms=2000)


def test_an_eta_may_be_aware_or_wall_time_of_the_app(shop: Deployment) -> None:
    due = datetime.now(UTC) + timedelta(seconds=1)
    results = [shop.task("show").apply_async(eta=due), shop.task("show").apply_async(eta=due.replace(tzinfo=None))]

    told = [result.get(timeout=TIMEOUT_S) for result in results]

    assert [each["tw_eta"] for each in told] == [int(due.timestamp() * 1000)] * 2


def test_an_eta_in_the_past_runs_at_once(shop: Deployment) -> None:
    told = shop.task("show").apply_async(eta=datetime.now(UTC) - timedelta(days=1)).get(timeout=TIMEOUT_S)
    assert told["tw_eta"] is None


def test_a_task_sent_by_name_waits_too(shop: Deployment) -> None:
    before_ms = now_ms()
    result = shop.app.send_task("shop.show", (1,), countdown=1)
    result.get(timeout=TIMEOUT_S)
    assert_deferred(shop.run_of(result), before_ms=before_ms, delay_ms=1000)


def test_a_retry_waits_in_the_timetable_under_its_id_with_a_mid_of_its_own(shop: Deployment) -> None:
    before_ms = now_ms()
    result = shop.task("flaky", 2, 1.0).apply_async()

    assert result.get(timeout=TIMEOUT_S) == 2

    first, second, third = shop.runs_of(result, 3)
    assert first.value["tw_eta"] is None
    assert_deferred(second, before_ms=before_ms, delay_ms=1000)
    assert_deferred(third, before_ms=before_ms, delay_ms=2000)
    assert len({line.value["mid"] for line in (first, second, third)}) == 3


def test_a_retry_that_is_due_at_once_carries_no_older_eta(shop: Deployment) -> None:
    result = shop.task("flaky", 1, 0.1).apply_async(countdown=1)

    assert result.get(timeout=TIMEOUT_S) == 1

    first, second = shop.runs_of(result, 2)
    assert first.value["tw_eta"] is not None
    assert second.value["tw_eta"] is None
    assert first.value["mid"] != second.value["mid"]


def test_each_step_of_a_chain_waits_for_its_own_countdown(shop: Deployment) -> None:
    before_ms = now_ms()
    steps = chain(shop.task("show", 1).set(countdown=1), shop.task("noted", 2).set(countdown=1), app=shop.app)

    result = steps.apply_async()

    (second,) = shop.runs_of(result)
    (first,) = shop.runs_of(result.parent)
    assert_deferred(first, before_ms=before_ms, delay_ms=1000)
    assert_deferred(second, before_ms=first.at_ms, delay_ms=1000)


def test_each_task_of_a_group_waits(shop: Deployment) -> None:
    before_ms = now_ms()
    result = group([shop.task("show", number) for number in range(3)], app=shop.app).apply_async(countdown=1)

    told = result.get(timeout=TIMEOUT_S)

    assert [each["value"] for each in told] == [0, 1, 2]
    for child in result.children:
        assert_deferred(shop.run_of(child), before_ms=before_ms, delay_ms=1000)


def test_the_header_and_the_body_of_a_chord_wait(shop: Deployment) -> None:
    before_ms = now_ms()
    parts = [shop.task("show", number).set(countdown=1) for number in range(3)]
    result = chord(parts, app=shop.app)(shop.task("show").set(countdown=1))

    told = result.get(timeout=TIMEOUT_S)

    assert sorted(each["value"] for each in told["value"]) == [0, 1, 2]
    assert_deferred(shop.run_of(result), before_ms=before_ms, delay_ms=2000)


def test_a_task_that_has_expired_when_it_is_released_ends_revoked(shop: Deployment) -> None:
    result = shop.task("show").apply_async(countdown=2, expires=1)
    with pytest.raises(TaskRevokedError, match="expired"):
        result.get(timeout=TIMEOUT_S)
    assert result.state == "REVOKED"


def test_a_task_that_expires_later_runs(shop: Deployment) -> None:
    assert shop.task("show", 5).apply_async(countdown=1, expires=60).get(timeout=TIMEOUT_S)["value"] == 5


@pytest.mark.parametrize("compression", ["zlib", "bzip2"])
def test_a_compressed_message_arrives_whole(shop: Deployment, compression: str) -> None:
    result = shop.task("show", "x" * 5000).apply_async(countdown=1, compression=compression)
    assert result.get(timeout=TIMEOUT_S)["value"] == "x" * 5000


def test_text_of_all_kinds_arrives_as_it_was(shop: Deployment) -> None:
    value = {"text": "Grüße, 世界 🎡\n\0", "empty": [], "none": {}, "large": 12345678901234567890, "fraction": 0.1}
    assert shop.task("show", value).apply_async(countdown=1).get(timeout=TIMEOUT_S)["value"] == value


def test_a_priority_is_kept(shop: Deployment) -> None:
    assert shop.task("show").apply_async(countdown=1, priority=6).get(timeout=TIMEOUT_S)["priority"] == 6


def test_headers_for_tracing_survive_the_wait(shop: Deployment) -> None:
    assert shop.task("show").apply_async(countdown=1, headers={"trace": "00-abc"}).get(timeout=TIMEOUT_S)["trace"] == "00-abc"


def test_links_are_called_after_a_task_that_waited(shop: Deployment) -> None:
    good, bad = shop.task("noted").set(task_id=f"good-{now_ms()}"), shop.task("noted").set(task_id=f"bad-{now_ms()}")

    shop.task("show").apply_async(countdown=1, link=good, link_error=bad)
    shop.task("broken").apply_async(countdown=1, link=good, link_error=bad)

    shop.runs_of(good.options["task_id"])
    shop.runs_of(bad.options["task_id"])


def test_a_task_without_a_result_waits_and_runs(shop: Deployment) -> None:
    before_ms = now_ms()
    result = shop.task("noted").apply_async(countdown=1, ignore_result=True)
    assert_deferred(shop.run_of(result), before_ms=before_ms, delay_ms=1000)


def test_a_large_task_waits_in_a_worker_and_runs(shop: Deployment) -> None:
    result = shop.task("noted", "x" * 300_000).apply_async(countdown=1)
    assert shop.run_of(result).value["tw_eta"] is None


def test_a_task_that_opts_out_waits_in_a_worker(shop: Deployment) -> None:
    result = shop.task("show").apply_async(countdown=2, tw_defer=False)
    wait_until(lambda: len(shop.held_by_workers()) == 1, TIMEOUT_S, message="a worker to hold the task")
    assert result.get(timeout=TIMEOUT_S)["eta"] is not None
