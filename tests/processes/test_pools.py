"""What each pool of workers does with guarded runs: the table of ``docs/howto/long-tasks.md``, line by line."""

import os
import signal
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from billiard.exceptions import WorkerLostError
from celery import Celery
from celery.exceptions import TaskRevokedError
from celery.result import AsyncResult

import celery_tw
from celery_tw import TimeWheel
from tests.closing import close
from tests.processes.container import ProcessContainer
from tests.processes.processes import Processes
from tests.waiting import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.long]

TIMEOUT_S = 40
CONF = {
    "tw_heartbeat_interval": 0.3,
    "tw_heartbeat_timeout": 2,
    "tw_lock_timeout": 60,
    "tw_lock_extend_interval": 1,
    "worker_prefetch_multiplier": 1,
}
SPAWN = {"worker_pool_start_method": "spawn"}
without_gevent = pytest.mark.skipif(find_spec("gevent") is None, reason="gevent is not installed (pip install gevent)")

FORK, SPAWNED = pytest.param("prefork", {}, id="prefork, fork"), pytest.param("prefork", SPAWN, id="prefork, spawn")
THREADS, SOLO = pytest.param("threads", {}, id="threads"), pytest.param("solo", {}, id="solo")
GEVENT = pytest.param("gevent", {}, id="gevent", marks=without_gevent)
EVERY_POOL = [FORK, SPAWNED, THREADS, GEVENT, SOLO]


class Site:
    """A beat that leads, and workers of one pool."""

    def __init__(self, processes: Processes, pool: str, conf: dict[str, Any]) -> None:
        self.processes, self.pool, self.conf = processes, pool, {**CONF, **conf}
        self.notes = Path(f"{processes.ledger}.pooled")
        self.app = Celery("shop", broker=processes.url, backend=processes.url, set_as_current=False)
        self.app.conf.update(self.conf)
        self.wheel = TimeWheel(self.app)
        processes.beat(module="pooled", conf=self.conf)
        self.first = self.worker()
        wait_until(lambda: self.wheel.status().leader, TIMEOUT_S, message="the beat to lead")

    def worker(self) -> ProcessContainer:
        worker = self.processes.worker("-c", "2", pool=self.pool, module="pooled", conf=self.conf)
        worker.ready()
        return worker

    def send(self, name: str, *args: Any) -> AsyncResult:
        task = self.app.tasks.get(f"shop.{name}")
        return self.app.send_task(f"shop.{name}", args) if task is None else task.apply_async(args)

    def told(self) -> list[str]:
        return self.notes.read_text().splitlines() if self.notes.exists() else []

    def wait_until_counted(self, result: AsyncResult, number: int) -> None:
        wait_until(lambda: (self.wheel.runs.checkpoint(result.id) or {"done": 0})["done"] >= number, TIMEOUT_S, message=f"{number} counted")

    def child(self) -> int:
        """Return the pid of the pool process that runs a task."""
        (run,) = wait_until(lambda: [run for run in self.wheel.runs.under_way() if run.process], TIMEOUT_S)
        return int(run.process.rpartition(":")[2])


def _runs_elsewhere(name: str, seconds: float) -> None:
    """Stand for a task of the project: who sends it draws its number."""


@pytest.fixture
def make_site(processes: Processes) -> Iterator[Callable[..., Site]]:
    sites: list[Site] = []

    def make(pool: str, conf: dict[str, Any]) -> Site:
        sites.append(Site(processes, pool, conf))
        return sites[-1]

    yield make
    for site in sites:
        close(site.app)


@pytest.mark.parametrize("task", ["locked", "patterned"])
@pytest.mark.parametrize(("pool", "conf"), EVERY_POOL)
def test_a_lock_lets_one_run_at_a_time_in(make_site: Callable[..., Site], pool: str, conf: dict[str, Any], task: str) -> None:
    site = make_site(pool, conf)
    results = [site.send(task, name) for name in ("a", "b", "c")]

    assert [result.get(timeout=TIMEOUT_S) for result in results] == ["a", "b", "c"]

    lines = site.told()
    assert [line.split()[1] for line in lines] == ["begins", "ends"] * 3
    assert all(begins.split()[0] == ends.split()[0] for begins, ends in zip(lines[::2], lines[1::2], strict=True))


@pytest.mark.parametrize(("pool", "conf"), EVERY_POOL)
def test_a_running_task_stops_when_it_is_cancelled_and_its_state_is_saved(
    make_site: Callable[..., Site], pool: str, conf: dict[str, Any]
) -> None:
    site = make_site(pool, conf)
    result = site.send("count", 1_000_000)
    site.wait_until_counted(result, 40)

    assert site.wheel.cancel(result.id, reason="enough").stopping

    with pytest.raises(TaskRevokedError, match="enough"):
        result.get(timeout=TIMEOUT_S)
    assert site.wheel.runs.checkpoint(result.id)["done"] >= 40


@pytest.mark.parametrize(("pool", "conf"), [FORK, SPAWNED])
def test_a_lost_pool_process_is_noticed_at_once(make_site: Callable[..., Site], pool: str, conf: dict[str, Any]) -> None:
    site = make_site(pool, {**conf, "tw_heartbeat_timeout": 600})
    result = site.send("count", 400)
    site.wait_until_counted(result, 40)

    os.kill(site.child(), signal.SIGKILL)

    assert result.get(timeout=TIMEOUT_S) == 400
    _, again = site.told()
    assert int(again.split()[-1]) >= 40


@pytest.mark.parametrize(("pool", "conf"), EVERY_POOL)
def test_a_lost_worker_is_noticed_by_its_silence(make_site: Callable[..., Site], pool: str, conf: dict[str, Any]) -> None:
    site = make_site(pool, conf)
    result = site.send("count", 400)
    site.wait_until_counted(result, 40)

    os.killpg(site.first.pid, signal.SIGKILL)
    site.worker()

    assert result.get(timeout=TIMEOUT_S) == 400
    assert int(site.told()[-1].split()[-1]) >= 40


@pytest.mark.parametrize(("pool", "conf"), EVERY_POOL)
def test_a_warm_shutdown_lets_a_run_go_on_elsewhere(make_site: Callable[..., Site], pool: str, conf: dict[str, Any]) -> None:
    site = make_site(pool, conf)
    result = site.send("count", 2000)
    site.wait_until_counted(result, 40)

    site.first.send(signal.SIGTERM)
    assert site.first.wait(TIMEOUT_S) == 0
    site.worker()

    assert result.get(timeout=TIMEOUT_S) == 2000
    assert int(site.told()[-1].split()[-1]) >= 40


@pytest.mark.parametrize("losses", [0, 3])
def test_an_order_goes_on_when_the_process_of_its_head_dies(make_site: Callable[..., Site], losses: int) -> None:
    site = make_site("prefork", {"tw_max_reassignments": losses})
    site.app.task(name="shop.ordered", base=celery_tw.LongTask, shared=False, ordering_key="k")(_runs_elsewhere)
    head, following = site.send("ordered", "head", 3600 if not losses else 3), site.send("ordered", "next", 0)
    wait_until(lambda: site.told(), TIMEOUT_S)

    os.kill(site.child(), signal.SIGKILL)

    assert following.get(timeout=TIMEOUT_S) == "next"
    if losses:
        assert site.told() == ["head begins", "head begins", "head ends", "next begins", "next ends"]
    else:
        assert site.told() == ["head begins", "next begins", "next ends"]
        with pytest.raises(WorkerLostError):
            head.get(timeout=TIMEOUT_S)
