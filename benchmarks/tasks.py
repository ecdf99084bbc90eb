"""Tasks: what guards cost: no-op tasks a second on one prefork worker with two processes, and what each leaves in Redis."""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.contender import stop
from benchmarks.process_figures import cpu_s
from benchmarks.report import Report
from benchmarks.server import start_server

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 120.0
LOOK_S = 0.005
WARM = 100
"""The tasks before the time runs: processes fork, modules load, connections open."""

PLAIN = "plain"
OFTEN_ENOUGH = 0.88, 0.80
"""Of the rate of plain tasks, for a run on record, and for one with a lock as well."""

OTHERS = "celery-task-meta-", "_kombu", "unacked", "celery"
"""What the keys begin with that belong to the results and to the broker."""


@dataclass(slots=True)
class Measured:
    """What was measured of one contender, round by round."""

    who: str
    per_s: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    sent_per_s: list[float] = field(default_factory=list)
    bytes_left: list[float] = field(default_factory=list)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tasks", type=int, default=6000, help="tasks of a contender in a round (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds; each contender has its turn in each (default %(default)s)")


def run(options: argparse.Namespace) -> Report:
    """Measure the contenders in turn, round after round, and compare each with the plain tasks of its own round."""
    from benchmarks.guarded_application import BASES  # noqa: PLC0415 - the peers are needed by this benchmark alone

    measured = {name: Measured(who) for name, (who, _) in BASES.items()}
    for number in range(options.rounds):
        for name in sorted(measured, reverse=number % 2 == 1):
            _measure(measured[name], name, options.tasks)
    report = Report("tasks")
    for each in measured.values():
        report.add(
            each.who,
            **{
                "tasks/s": statistics.median(each.per_s),
                "of plain": _share(each, measured[PLAIN]),
                "CPU ms a task": statistics.median(each.cpu_ms),
                "sends/s": statistics.median(each.sent_per_s),
                "bytes left a task": statistics.median(each.bytes_left),
            },
        )
    report.find("a run on record / plain", _share(measured["once"], measured[PLAIN]), at_least=OFTEN_ENOUGH[0])
    report.find("a run on record, with a lock / plain", _share(measured["locked"], measured[PLAIN]), at_least=OFTEN_ENOUGH[1])
    report.find("bytes in Redis for a finished run", statistics.median(measured["once"].bytes_left), at_most=100)
    return report


def _share(one: Measured, other: Measured) -> float:
    """Return the median of the ratios of the rates of each round: what slows a whole round down slows both."""
    return statistics.median(mine / theirs for mine, theirs in zip(one.per_s, other.per_s, strict=True))


def _measure(measured: Measured, name: str, number: int) -> None:
    from benchmarks.guarded_application import make_app  # noqa: PLC0415 - as above

    with start_server() as server, make_app(server.url) as app:
        began_s = time.perf_counter()
        for index in range(number + WARM):
            app.tasks[name].apply_async((index,))
        measured.sent_per_s.append((number + WARM) / (time.perf_counter() - began_s))
        with server.client() as client, _worker(server.url) as worker:
            _wait_for(lambda: client.llen("celery") <= number)
            began_s, began_cpu_s = time.perf_counter(), _cpu_s(worker)
            _wait_for(lambda: not client.exists("celery", "unacked"))
            took_s = time.perf_counter() - began_s
            measured.cpu_ms.append(1000 * (_cpu_s(worker) - began_cpu_s) / number)
            measured.per_s.append(number / took_s)
            measured.bytes_left.append(_bytes_left(client) / (number + WARM))


@contextmanager
def _worker(url: str) -> "Iterator[subprocess.Popen[bytes]]":
    command = [sys.executable, "-m", "celery", "-A", "benchmarks.guarded_application", "worker", "-P", "prefork", "-c", "2", "-l", "ERROR"]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    environment = {**os.environ, "BENCH_URL": url}
    worker = subprocess.Popen([*command, *quiet], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        yield worker
    finally:
        stop(worker)


def _cpu_s(worker: "subprocess.Popen[bytes]") -> float:
    """Return the processor time of a worker and its pool."""
    children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
    return cpu_s(worker.pid) + sum(cpu_s(int(pid)) for pid in children)


def _bytes_left(client: Any) -> int:
    """Return what stands in Redis besides results and the broker's own keys."""
    return sum(client.memory_usage(key, samples=0) for key in client.scan_iter(count=1000) if not key.decode().startswith(OTHERS))


def _wait_for(come: Any) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not come():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"the worker has not come to its end in {PATIENCE_S:g} s")
        time.sleep(LOOK_S)
