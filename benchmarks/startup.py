"""Start-up: a leader with a full timetable: its first fire, idle cost and memory, and what a waiting task takes in Redis."""

import argparse
import time
from datetime import UTC, datetime, timedelta
from statistics import mean

from benchmarks.application import QUEUE, make_app
from benchmarks.contender import CELERY_BEAT, RED_BEAT, TIME_WHEEL, Contender, running
from benchmarks.filling import hold_in_store, store_one_time, stored_messages
from benchmarks.filling_redbeat import store_for_redbeat
from benchmarks.leader import wait_for_leader
from benchmarks.process_figures import cpu_s, memory_bytes
from benchmarks.queue_watch import QueueWatch
from benchmarks.report import Report
from benchmarks.server import start_server

FAR = timedelta(hours=2)
SPREAD_S = 20 * 24 * 3600.0
STILL_CPU_PERCENT = 5.0
LOOK_S = 1.0
LOADING_LIMIT_S = 180.0
PATIENCE_S = 180.0
PERIOD_S = 86_400.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--entries", type=int, default=1_000_000, help="one-time tasks in the timetable (default %(default)s)")
    parser.add_argument("--peer-entries", type=int, default=10_000, help="entries of RedBeat and beat (default %(default)s)")
    parser.add_argument("--sample", type=int, default=20_000, help="tasks stored to measure their memory (default %(default)s)")
    parser.add_argument("--idle", type=float, default=20.0, metavar="SECONDS", help="how long idling is watched (default %(default)s)")


def run(options: argparse.Namespace) -> Report:
    """Measure the time wheel with a full timetable, the peers with fewer entries, and the memory of a waiting task."""
    report = Report("startup")
    first_fire_s, loaded_s, idle_percent, memory = _full(options.entries, options.idle)
    report.add(
        "celery-tw",
        entries=options.entries,
        first_fire_s=round(first_fire_s, 3),
        loaded_s=round(loaded_s, 1),
        idle_cpu_percent=round(idle_percent, 2),
        rss_mib=round(memory / 2**20),
    )
    for contender in (RED_BEAT, CELERY_BEAT):
        first_s, percent, peer_memory = _peer(contender, options.peer_entries, options.idle)
        report.add(
            contender.name,
            entries=options.peer_entries,
            first_fire_s=round(first_s, 3),
            idle_cpu_percent=round(percent, 2),
            rss_mib=round(peer_memory / 2**20),
        )
    report.find("first fire after becoming leader, s", first_fire_s, at_most=2)
    report.find("idle CPU, %", idle_percent, at_most=1)
    taken, message = _task_bytes(options.sample)
    report.find("bytes in Redis of a waiting task, all told", taken)
    report.find("bytes in Redis of a waiting task beyond its message", taken - message, at_most=300)
    return report


def _full(entries: int, idle_s: float) -> tuple[float, float, float, int]:
    with start_server() as server, server.client() as client:
        app = make_app(server.url)
        now = datetime.now(UTC)
        hold_in_store(app, client, entries, first=now + FAR, spread_s=SPREAD_S)
        store_one_time(app, 1, at=datetime.now(UTC) + timedelta(seconds=1))
        watch = QueueWatch(server.socket_path, QUEUE, total=1, box_s=PATIENCE_S, patience_s=PATIENCE_S)
        time.sleep(LOOK_S + 1)
        with running(TIME_WHEEL, server.url) as beat:
            leading_s = wait_for_leader(app, client)
            first_fire_s = watch.wait().end_s - leading_s
            loaded_s = _wait_until_still(beat.pid) - leading_s
            idle_percent = _cpu_percent(beat.pid, idle_s)
            return first_fire_s, loaded_s, idle_percent, memory_bytes(beat.pid)


def _peer(contender: Contender, entries: int, idle_s: float) -> tuple[float, float, int]:
    """Return when a peer's first message came after its process was started, its idle CPU and its memory.

    One entry is overdue at the start, to show when the peer is ready.
    """
    with start_server() as server:
        environment: dict[str, object] = {}
        if contender is RED_BEAT:
            app = make_app(server.url)
            store_for_redbeat(app, 1, period_s=PERIOD_S, last_run_s=2 * PERIOD_S)
            store_for_redbeat(app, entries, period_s=PERIOD_S, last_run_s=PERIOD_S / 2, first=1)
        else:
            environment = {"BENCH_STATIC": entries, "BENCH_PERIOD_S": PERIOD_S, "BENCH_OVERDUE": 1}
        watch = QueueWatch(server.socket_path, QUEUE, total=1, box_s=PATIENCE_S, patience_s=PATIENCE_S)
        started_s = time.time()
        with running(contender, server.url, **environment) as beat:
            first_s = watch.wait().end_s - started_s
            _wait_until_still(beat.pid)
            return first_s, _cpu_percent(beat.pid, idle_s), memory_bytes(beat.pid)


def _wait_until_still(pid: int) -> float:
    """Wait until the process has hardly worked for a second; return when that second began."""
    deadline_s = time.monotonic() + LOADING_LIMIT_S
    while time.monotonic() < deadline_s:
        began_s = time.time()
        if _cpu_percent(pid, LOOK_S) < STILL_CPU_PERCENT:
            return began_s
    raise TimeoutError(f"process {pid} was still busy after {LOADING_LIMIT_S:g} s")


def _cpu_percent(pid: int, seconds: float) -> float:
    before_s = cpu_s(pid)
    time.sleep(seconds)
    return 100 * (cpu_s(pid) - before_s) / seconds


def _task_bytes(count: int) -> tuple[float, float]:
    """Return what a waiting one-time task adds to the server's memory, all told, and the bytes of its message."""
    with start_server() as server, server.client() as client:
        app = make_app(server.url)
        store_one_time(app, 1, at=datetime.now(UTC) + FAR)
        before = int(client.info("memory")["used_memory"])
        store_one_time(app, count + 1, at=datetime.now(UTC) + FAR)
        added = int(client.info("memory")["used_memory"]) - before
        return added / count, mean(map(len, stored_messages(app, client)))
