"""Yard: workers whose runs are on record, a beat that leads, and a client, with time-outs so short that a test can wait for them."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from celery import Celery
from celery.result import AsyncResult

from celery_tw import TimeWheel
from celery_tw.integration.runs.runner import runner_of
from celery_tw.testing.ledger import Ledger, Line
from tests.processes.container import ProcessContainer
from tests.processes.processes import Processes
from tests.waiting import wait_until

TIMEOUT_S = 60
POINTS = ["R1", "R2", "R3", "R4", "R5"]
QUICK = {
    "tw_heartbeat_interval": 0.3,
    "tw_heartbeat_timeout": 2,
    "tw_lock_timeout": 4,
    "tw_lock_extend_interval": 1,
    "worker_prefetch_multiplier": 1,
}
SWEEPING = {"visibility_timeout": 1, "unacked_restore_interval": 1, "unacked_restore_throttle": 1, "unacked_mutex_expire": 2}
"""A worker gives back each second what was not acknowledged for a second, whoever has it: lost messages come soon, and many copies.

One that is killed as it does so keeps the others from it until its mutex expires, which by default takes five minutes.
"""


class Yard:
    """One place of work, with the tasks of *module*; *settings* go to each of its processes."""

    def __init__(self, processes: Processes, *, module: str = "running", **settings: Any) -> None:
        self.processes = processes
        self.module = module
        self.conf = {**QUICK, "broker_transport_options": SWEEPING, **settings}
        self.ledger = Ledger(processes.ledger)
        self.app = Celery("shop", broker=processes.url, backend=processes.url, set_as_current=False)
        self.app.conf.update(self.conf)
        self.wheel = TimeWheel(self.app)

    def beat(self) -> "Yard":
        self.processes.beat(module=self.module, conf=self.conf).ready()
        wait_until(lambda: self.wheel.status().leader, 20, message="the beat to lead")
        return self

    def worker(
        self, pool: str = "prefork", *, failpoint: str = "", once: str = "", concurrency: int = 2, **settings: Any
    ) -> ProcessContainer:
        with _environment("TW_FAILPOINT", failpoint), _environment("TW_FAILPOINT_ONCE", once):
            worker = self.start_worker(pool, concurrency=concurrency, **settings)
        worker.ready()
        return worker

    def start_worker(self, pool: str = "prefork", *, concurrency: int = 2, **settings: Any) -> ProcessContainer:
        """Start a worker that may die before anybody has seen that it is ready."""
        return self.processes.worker("-c", str(concurrency), pool=pool, module=self.module, conf={**self.conf, **settings})

    def worker_with_a_child_to_die(self, point: str) -> ProcessContainer:
        """Start a worker the first of whose children to come to *point* kills itself there; the next one goes on."""
        return self.worker(failpoint=f"{point}:kill", once=str(self.processes.folder / "died"))

    def worker_to_stop(self, point: str) -> ProcessContainer:
        """Start a worker whose one child stands still at *point*."""
        return self.worker(failpoint=f"{point}:stop", concurrency=1)

    # Sending

    def send(self, name: str, *args: Any, **options: Any) -> AsyncResult:
        return self.task(name, *args).apply_async(**options)

    def task(self, name: str, *args: Any) -> Any:
        return self.app.signature(f"shop.{name}", args=args)

    # Seeing

    def lines(self, task_id: str) -> list[Line]:
        return [line for line in self.ledger.lines() if line.task_id == task_id]

    def values(self, task_id: str) -> list[Any]:
        return [line.value for line in self.lines(task_id)]

    def wait_for_lines(self, task_id: str, number: int) -> list[Line]:
        wait_until(lambda: len(self.lines(task_id)) >= number, TIMEOUT_S, message=f"{number} lines of {task_id}")
        return self.lines(task_id)

    def wait_for_progress(self, result: AsyncResult, done: int) -> int:
        """Wait until a long task has saved *done* steps, or more; return how many."""
        wait_until(lambda: self.progress(result) >= done, TIMEOUT_S, message=f"{done} steps of {result.id}")
        return self.progress(result)

    def progress(self, result: AsyncResult) -> int:
        """Return how many steps a long task has on its checkpoint."""
        views = self.wheel.runs.show(result.id)
        return int(views[0].progress["done"]) if views and views[0].progress else 0

    def wait_until_nothing_runs(self) -> None:
        wait_until(lambda: not self.wheel.runs.under_way(), TIMEOUT_S, message="no run to be under way")

    def is_remembered(self, mid: str) -> bool:
        """Return whether a run that is not under way has left a record."""
        return bool(runner_of(self.app).runs.under_way.read([mid]))

    def steps(self) -> int:
        """Return how many steps the bodies of long tasks have done, repeated ones included."""
        file = self.processes.ledger.with_suffix(".steps")
        return file.stat().st_size if file.exists() else 0


def children_of(worker: ProcessContainer) -> list[int]:
    """Return the pids of a worker's pool."""
    return [int(pid) for pid in Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()]


def running_child(worker: ProcessContainer) -> int:
    """Return the pid of the pool process that has used most CPU time, which is the one that counts."""
    return max(children_of(worker), key=_cpu_time)


def wait_for_a_stopped_child(worker: ProcessContainer) -> int:
    """Wait until a process of the pool stands still; return its pid."""
    return wait_until(lambda: next((pid for pid in children_of(worker) if _state(pid) == "T"), 0), TIMEOUT_S, message="a child to stop")


def kill_all_of(worker: ProcessContainer) -> None:
    """Kill a worker with its whole pool, as the end of its host does."""
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()


def _state(pid: int) -> str:
    return _stat(pid)[0]


def _cpu_time(pid: int) -> int:
    user, system = _stat(pid)[11:13]
    return int(user) + int(system)


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except FileNotFoundError:  # it has ended
        return ["X"] + ["0"] * 20


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
