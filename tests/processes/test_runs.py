"""Runs on record, with real workers that are killed: what ran is held against what was sent."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chain
from celery.exceptions import TaskRevokedError
from celery.result import AsyncResult

from celery_tw import TimeWheel
from celery_tw.testing.ledger import Ledger, Line
from celery_tw.testing.rabbit_server import RabbitServer
from tests.closing import close
from tests.processes.container import ProcessContainer
from tests.processes.processes import Processes
from tests.waiting import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.long]

TIMEOUT_S = 40
QUICK = {
    "tw_heartbeat_interval": 0.3,
    "tw_heartbeat_timeout": 2,
    "tw_lock_timeout": 4,
    "tw_lock_extend_interval": 1,
    "worker_prefetch_multiplier": 1,
    "broker_transport_options": {"visibility_timeout": 1},
}


class Yard:
    """Workers of the project, a beat that leads, and a client."""

    def __init__(self, processes: Processes, **settings: Any) -> None:
        self.processes = processes
        self.conf = {**QUICK, **settings}
        self.ledger = Ledger(processes.ledger)
        self.app = Celery("shop", broker=processes.url, backend=processes.url, set_as_current=False)
        self.app.conf.update(self.conf)
        self.wheel = TimeWheel(self.app)

    def beat(self) -> "Yard":
        self.processes.beat(module="running", conf=self.conf).ready()
        wait_until(lambda: self.wheel.status().leader, 20, message="the beat to lead")
        return self

    def worker(self, pool: str = "prefork", *, failpoint: str = "", **settings: Any) -> ProcessContainer:
        before = os.environ.get("TW_FAILPOINT")
        os.environ["TW_FAILPOINT"] = failpoint
        try:
            worker = self.processes.worker("-c", "2", pool=pool, module="running", conf={**self.conf, **settings})
        finally:
            if before is None:
                del os.environ["TW_FAILPOINT"]
            else:
                os.environ["TW_FAILPOINT"] = before
        worker.ready()
        return worker

    def send(self, name: str, *args: Any, **options: Any) -> AsyncResult:
        return self.task(name, *args).apply_async(**options)

    def task(self, name: str, *args: Any) -> Any:
        return self.app.signature(f"shop.{name}", args=args)

    def lines(self, result: AsyncResult) -> list[Line]:
        return [line for line in self.ledger.lines() if line.task_id == result.id]

    def wait_for_lines(self, result: AsyncResult, number: int) -> list[Line]:
        wait_until(lambda: len(self.lines(result)) >= number, TIMEOUT_S, message=f"{number} lines of {result.id}")
        return self.lines(result)


@pytest.fixture
def make_yard(processes: Processes) -> Iterator[Callable[..., Yard]]:
    yards: list[Yard] = []

    def make(**settings: Any) -> Yard:
        yards.append(Yard(processes, **settings))
        return yards[-1]

    yield make
    for yard in yards:
        close(yard.app)


@pytest.fixture(params=["redis", "rabbitmq"])
def yard(request: pytest.FixtureRequest, make_yard: Callable[..., Yard], processes: Processes) -> Yard:
    """A yard on each broker; its timetable is in Redis."""
    if request.param == "redis":
        return make_yard().beat()
    server: RabbitServer = request.getfixturevalue("rabbit_server")
    return make_yard(broker_url=server.url, tw_redis_url=processes.url, broker_transport_options={}).beat()


@pytest.mark.parametrize("point", ["R1", "R2", "R3", "R4", "R5"])
def test_a_chain_is_completed_once_whenever_its_worker_dies(yard: Yard, point: str) -> None:
    dying = yard.worker("solo", failpoint=f"{point}:kill")
    result = chain(yard.task("once", 1), yard.task("once", 2), app=yard.app).apply_async()

    dying.wait(TIMEOUT_S)
    yard.worker()

    assert result.get(timeout=TIMEOUT_S) == 1
    runs_of_the_first = [line for line in yard.ledger.lines() if line.task_id == result.parent.id]
    assert len(yard.lines(result)) == 1, "the child runs once"
    assert len(runs_of_the_first) == (2 if point == "R2" else 1), "a body whose result is on record does not run again"


def test_a_killed_child_of_a_long_task_goes_on_from_its_checkpoint_at_once(yard: Yard) -> None:
    worker = yard.worker()
    result = yard.send("count", 3000)
    (first,) = yard.wait_for_lines(result, 1)
    wait_until(lambda: (result.info or {}).get("done", 0) >= 500 if isinstance(result.info, dict) else False, TIMEOUT_S)
    child = running_child(worker)

    os.kill(child, signal.SIGKILL)

    assert result.get(timeout=TIMEOUT_S) == 3000
    _, second, last = yard.lines(result)
    assert second.value["from"] >= 400
    assert second.value["token"] > first.value["token"]
    assert last.value["to"] == 3000


def test_a_killed_worker_of_a_long_task_is_noticed_by_its_silence(yard: Yard) -> None:
    worker = yard.worker()
    result = yard.send("count", 3000)
    wait_until(lambda: isinstance(result.info, dict) and result.info["done"] >= 500, TIMEOUT_S)

    os.killpg(worker.pid, signal.SIGKILL)
    yard.worker()

    assert result.get(timeout=TIMEOUT_S) == 3000
    assert yard.lines(result)[1].value["from"] >= 400


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_warm_shutdown_lets_a_long_task_go_on_elsewhere(make_yard: Callable[..., Yard], pool: str) -> None:
    yard = make_yard().beat()
    worker = yard.worker(pool)
    result = yard.send("count", 4000)
    wait_until(lambda: isinstance(result.info, dict) and result.info["done"] >= 300, TIMEOUT_S)

    worker.send(signal.SIGTERM)
    assert worker.wait(20) == 0
    yard.worker(pool)

    assert result.get(timeout=TIMEOUT_S) == 4000
    _, second, *_ = yard.lines(result)
    assert second.value["from"] >= 300


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_running_task_is_cancelled_with_its_last_checkpoint_saved(make_yard: Callable[..., Yard], pool: str) -> None:
    yard = make_yard().beat()
    yard.worker(pool)
    result = yard.send("count", 100_000)
    wait_until(lambda: isinstance(result.info, dict) and result.info["done"] >= 300, TIMEOUT_S)

    assert yard.wheel.cancel(result.id, reason="no longer wanted").stopping

    with pytest.raises(TaskRevokedError, match="no longer wanted"):
        result.get(timeout=5)
    assert result.state == "REVOKED"


def test_a_lock_is_handed_on_as_soon_as_it_is_released(make_yard: Callable[..., Yard]) -> None:
    yard = make_yard(tw_lock_timeout=60).beat()
    yard.worker()
    results = [yard.send("slow", "a", 0.5) for _ in range(3)]

    assert [result.get(timeout=TIMEOUT_S) for result in results] == ["a"] * 3

    told = [line.value for line in yard.ledger.lines()]
    assert told == ["begins", "ends"] * 3
    moments = [line.at_ms for line in yard.ledger.lines()]
    assert moments[-1] - moments[0] < 6000


def running_child(worker: ProcessContainer) -> int:
    """Return the pid of the pool process that has used most CPU time, which is the one that counts."""
    children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
    return max(map(int, children), key=cpu_time)


def cpu_time(pid: int) -> int:
    user, system = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    return int(user) + int(system)
