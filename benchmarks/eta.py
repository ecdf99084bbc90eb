"""ETA: what tasks that are due later cost the sender and the worker, with the time wheel and with Celery alone."""

import argparse
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import redis
from celery import Celery

from benchmarks.application import KWARGS, make_app
from benchmarks.contender import TIME_WHEEL, running
from benchmarks.leader import wait_for_leader
from benchmarks.process_figures import memory_bytes
from benchmarks.report import Report
from benchmarks.server import start_server
from benchmarks.waiting_worker import RECEIVED, RUNS, noting_app, working
from celery_tw import TimeWheel

HOUR_S = 3600
CALLS_A_ROUND = 200
LOOK_S = 0.05
PATIENCE_S = 120.0
MIB = 1024 * 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=30, help=f"rounds of {CALLS_A_ROUND} calls of each kind (default %(default)s)")
    parser.add_argument("--tasks", type=int, default=20_000, help="tasks an hour ahead (default %(default)s)")
    parser.add_argument("--short", type=int, default=2000, help="tasks due soon (default %(default)s)")
    parser.add_argument("--due", type=float, default=30.0, metavar="SECONDS", help="when those are due (default %(default)s)")
    parser.add_argument("--visibility", type=float, default=4.0, metavar="SECONDS", help="visibility timeout (default %(default)s)")


def run(options: argparse.Namespace) -> Report:
    """Measure the calls side by side, then each contender on an empty server."""
    report = Report("eta")
    _calls(report, options.rounds)
    for who, with_time_wheel in (("celery-tw", True), ("Celery alone", False)):
        waiting = _waiting(options.tasks, options.visibility, with_time_wheel=with_time_wheel)
        runs = _runs(options.short, options.due, options.visibility, with_time_wheel=with_time_wheel)
        again = len(runs) - len(set(runs))
        report.add(
            f"{who}: {options.tasks:,} an hour ahead, {options.short:,} soon",
            held=waiting.held,
            deliveries=waiting.deliveries,
            growth_mib=round(waiting.growth_mib, 2),
            ran=len(set(runs)),
            ran_again=again,
        )
        if with_time_wheel:
            report.find("tasks held by the worker", waiting.held, at_most=0)
            report.find("growth of the worker, MiB", waiting.growth_mib, at_most=1.0)
            report.find("runs beyond one for each task", again, at_most=0)
        else:
            report.find("runs beyond one for each task, Celery alone", again)
    return report


# Calls


@dataclass(frozen=True, slots=True)
class Cost:
    """The median of one kind of call, in µs."""

    wall_us: float
    cpu_us: float


def _calls(report: Report, rounds: int) -> None:
    with start_server() as server, server.client() as client, running(TIME_WHEEL, server.url):
        bare, ours = make_app(server.url), make_app(server.url)
        TimeWheel(ours)
        wait_for_leader(ours, client)
        costs = _interleaved(
            {
                "without the plug-in": _call(bare),
                "without the plug-in, with an ETA": _call(bare, countdown=HOUR_S),
                "with the plug-in": _call(ours),
                "with the plug-in, with an ETA": _call(ours, countdown=HOUR_S),
            },
            rounds,
        )
        counted = sum(TimeWheel(ours).deferral.fallbacks.counts.values())
    for who, cost in costs.items():
        report.add(f"apply_async {who}", wall_us=round(cost.wall_us, 1), cpu_us=round(cost.cpu_us, 1))
    plain, own, deferred = (costs[who] for who in ("without the plug-in", "with the plug-in", "with the plug-in, with an ETA"))
    report.find("apply_async(eta=…) / apply_async()", deferred.wall_us / plain.wall_us, at_most=1.3)
    report.find("CPU added to a call without ETA, µs", own.cpu_us - plain.cpu_us, at_most=15)
    report.find("calls with an ETA that were not deferred", counted, at_most=0)


def _call(app: Celery, **options: Any) -> Callable[[], object]:
    task = app.tasks["benchmarks.work"]
    return lambda: task.apply_async((1,), KWARGS, **options)


def _interleaved(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, Cost]:
    """Return the cost of each call; every round takes each in turn, so that what else the machine does meets all alike."""
    seen: dict[str, list[tuple[float, float]]] = {who: [] for who in calls}
    for call in calls.values():
        _timed(call)
    for _ in range(rounds):
        for who, call in calls.items():
            seen[who].append(_timed(call))
    return {who: Cost(median(wall for wall, _ in times), median(cpu for _, cpu in times)) for who, times in seen.items()}


def _timed(call: Callable[[], object]) -> tuple[float, float]:
    """Return the wall and CPU time of one call in µs, over a round."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    for _ in range(CALLS_A_ROUND):
        call()
    scale = 1e6 / CALLS_A_ROUND
    return (time.perf_counter() - wall_s) * scale, (time.process_time() - cpu_s) * scale


# Waiting


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a worker held of tasks an hour ahead, how often they were delivered to it, and by how much it grew."""

    held: int
    deliveries: int
    growth_mib: float


@contextmanager
def _stage(visibility_s: float, *, with_time_wheel: bool) -> "Iterator[tuple[str, Any, redis.Redis, subprocess.Popen[bytes]]]":
    """Run a worker on a server of its own, and a leader if wanted; give its URL, a task, a client of the server, and the worker."""
    with ExitStack() as stack:
        server = stack.enter_context(start_server())
        client = stack.enter_context(server.client())
        app = noting_app(server.url, visibility_s=visibility_s)
        if with_time_wheel:
            TimeWheel(app)
            stack.enter_context(running(TIME_WHEEL, server.url))
            wait_for_leader(app, client)
        worker = stack.enter_context(working(server.url, visibility_s=visibility_s))
        note = app.tasks["benchmarks.note"]
        _warm_up(client, note)
        yield server.url, note, client, worker


def _waiting(tasks: int, visibility_s: float, *, with_time_wheel: bool) -> Waiting:
    with _stage(visibility_s, with_time_wheel=with_time_wheel) as (_, note, client, worker):
        before = memory_bytes(worker.pid)
        for number in range(tasks):
            note.apply_async((number,), countdown=HOUR_S)
        time.sleep(3 * visibility_s)
        growth = memory_bytes(worker.pid) - before
        return Waiting(client.hlen("unacked"), int(client.get(RECEIVED) or 0), growth / MIB)


def _runs(tasks: int, due_s: float, visibility_s: float, *, with_time_wheel: bool) -> list[bytes]:
    """Send tasks that are due in *due_s*, start a second worker as a deployment does, and return what ran.

    A worker looks 10 s after its start, and then each 100 s, for messages that were held longer than the visibility timeout.
    """
    with _stage(visibility_s, with_time_wheel=with_time_wheel) as (url, note, client, _):
        for number in range(tasks):
            note.apply_async((number,), countdown=due_s)
        time.sleep(visibility_s)
        with working(url, visibility_s=visibility_s):
            _wait_for_runs(client, tasks)
            time.sleep(2 * visibility_s)
            return client.lrange(RUNS, 0, -1)


def _warm_up(client: redis.Redis, note: Any) -> None:
    """Let the worker run enough to have imported and allocated all it ever will for these tasks; then forget it."""
    warm = 2000
    for number in range(warm):
        note.apply_async((-number,))
    _wait_for_runs(client, warm)
    client.delete(RUNS, RECEIVED)


def _wait_for_runs(client: redis.Redis, number: int) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while client.llen(RUNS) < number:
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"only {client.llen(RUNS)} of {number} tasks ran within {PATIENCE_S:g} s")
        time.sleep(LOOK_S)
