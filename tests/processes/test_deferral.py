"""Tasks with an ETA wait in the timetable: every way of sending one, with real workers of each pool.

The worker and the beat are started once for each pool; the tests tell their tasks apart by id.
"""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from celery.result import AsyncResult

from celery_tw import TimeWheel
from celery_tw.embedded import EmbeddedServer
from tests.closing import close
from tests.processes.ledger import Ledger, Line
from tests.processes.processes import Processes
from tests.waiting import wait_until

pytestmark = pytest.mark.processes

SETTINGS = {"tw_defer_min_delay": 0.5}
TIMEOUT_S = 30


class Deployment:
    """A worker, a beat that leads, and a client of them."""

    def __init__(self, processes: Processes, *, pool: str, **settings: Any) -> None:
        self.conf = {**SETTINGS, **settings}
        self.processes = processes
        self.ledger = Ledger(processes.ledger)
        self.worker = processes.worker("-c", "2", pool=pool, module="deferring", conf=self.conf)
        self.beat = processes.beat(module="deferring", conf=self.conf)
        self.app = self.client()

    def client(self, **settings: Any) -> Celery:
        url = self.processes.url
        app = Celery("shop", broker=url, backend=url, set_as_current=False)
        app.conf.update({**self.conf, **settings})
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

    def runs_of(self, result: AsyncResult, number: int = 1) -> list[Line]:
        """Return the runs of a task's id, when there are *number* of them."""

        def lines() -> list[Line]:
            return [line for line in self.ledger.lines() if line.task_id == result.id]

        wait_until(lambda: len(lines()) >= number, TIMEOUT_S, message=f"{number} runs of {result.id}")
        return lines()


@pytest.fixture(scope="module")
def server(redis_server: EmbeddedServer) -> Iterator[EmbeddedServer]:
    with EmbeddedServer.start() as server:
        yield server


@pytest.fixture(scope="module", params=["prefork", "threads", "solo"])
def pool(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def processes(server: EmbeddedServer, pool: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    processes = Processes(tmp_path_factory.mktemp(pool), url=server.url)
    yield processes
    processes.end()


@pytest.fixture(scope="module")
def shop(processes: Processes, server: EmbeddedServer, pool: str) -> Iterator[Deployment]:
    with server.client() as client:
        client.flushall()
    deployment = Deployment(processes, pool=pool).ready()
    yield deployment
    close(deployment.app)


def assert_deferred(told: dict[str, Any], line: Line, *, sent_ms: int, delay_ms: int) -> None:
    """Assert that a run comes from the timetable, at its time and not before."""
    assert told["eta"] is None
    assert abs(told["tw_eta"] - sent_ms - delay_ms) < 500
    assert line.slot_ms == told["tw_eta"]
    assert line.at_ms >= told["tw_eta"]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def test_a_countdown_waits_in_the_timetable_and_not_in_the_worker(shop: Deployment) -> None:
    sent_ms = now_ms()
    result = shop.task("show", 7).apply_async(countdown=1.5)
    assert shop.held_by_workers() == []

    told = result.get(timeout=TIMEOUT_S)

    (line,) = shop.runs_of(result)
    assert told["value"] == 7
    assert_deferred(told, line, sent_ms=sent_ms, delay_ms=1500)
