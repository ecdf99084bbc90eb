"""Accuracy: entries that fire every second, each message stamped as it reaches a receiver in a process of its own."""

import argparse
import time
from datetime import UTC, datetime, timedelta

from benchmarks.application import QUEUE, make_app
from benchmarks.contender import CELERY_BEAT, RED_BEAT, TIME_WHEEL, Contender, running
from benchmarks.filling import hold_in_store, store_recurring
from benchmarks.filling_redbeat import store_for_redbeat
from benchmarks.judgement import Accuracy, judge
from benchmarks.leader import wait_for_leader
from benchmarks.process_figures import cpu_s
from benchmarks.receiver import Receiver
from benchmarks.report import Report
from benchmarks.server import start_server
from celery_tw.embedded import EmbeddedServer

PERIOD_S = 1.0
DRIFT_NOISE_MS = 0.5
"""A trend over 30 fires is no surer than this; a slot off the grid would count as missed, whatever the trend."""
WARM_UP_S = 3.0
LOADING_S_PER_MILLION = 15.0
FAR = timedelta(hours=2)
SPREAD_S = 20 * 24 * 3600.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--entries", type=int, default=200, help="entries that fire every second (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of the window (default %(default)s)")
    parser.add_argument("--held", type=int, default=1_000_000, help="one-time tasks held in the second run (default %(default)s)")


def run(options: argparse.Namespace) -> Report:
    """Measure all contenders, each on an empty server."""
    report = Report("accuracy")
    ours, ours_cpu = _time_wheel(options.entries, options.seconds, held=0)
    _add(report, "celery-tw", ours, ours_cpu)
    full, full_cpu = _time_wheel(options.entries, options.seconds, held=options.held)
    _add(report, f"celery-tw, {options.held:,} held", full, full_cpu)
    for contender in (RED_BEAT, CELERY_BEAT):
        peer, peer_cpu = _peer(contender, options.entries, options.seconds)
        _add(report, contender.name, peer, peer_cpu)
        report.find(f"p99 of {contender.name} / celery-tw", peer.late_p99_ms / ours.late_p99_ms if ours.late_p99_ms else None)
    report.find("slots missed", ours.missed, at_most=0)
    report.find("slots doubled", ours.doubled, at_most=0)
    report.find("drift, ms per fire", abs(ours.drift_ms), at_most=DRIFT_NOISE_MS)
    report.find("lateness p99, ms", ours.late_p99_ms, at_most=20)
    report.find("CPU, %", ours_cpu, at_most=5)
    report.find(f"slots missed, {options.held:,} held", full.missed, at_most=0)
    report.find(f"lateness p99, {options.held:,} held, ms", full.late_p99_ms, at_most=100)
    return report


def _add(report: Report, who: str, seen: Accuracy, cpu_percent: float) -> None:
    report.add(
        who,
        slots=seen.slots,
        missed=seen.missed,
        doubled=seen.doubled,
        drift_ms=round(seen.drift_ms, 3),
        p50_ms=round(seen.late_p50_ms, 1),
        p99_ms=round(seen.late_p99_ms, 1),
        max_ms=round(seen.late_max_ms, 1),
        cpu_percent=round(cpu_percent, 2),
    )


def _time_wheel(entries: int, seconds: float, *, held: int) -> tuple[Accuracy, float]:
    with start_server() as server, server.client() as client:
        app = make_app(server.url)
        now = datetime.now(UTC)
        if held:
            hold_in_store(app, client, held, first=now + FAR, spread_s=SPREAD_S)
        with running(TIME_WHEEL, server.url) as beat:
            wait_for_leader(app, client)
            time.sleep(WARM_UP_S + LOADING_S_PER_MILLION * held / 1e6)
            store_recurring(app, entries, period_s=PERIOD_S, anchor=now.replace(microsecond=0))
            return _window(server, beat.pid, entries, seconds)


def _peer(contender: Contender, entries: int, seconds: float) -> tuple[Accuracy, float]:
    with start_server() as server:
        environment = {"BENCH_LOOP_S": 5.0} if contender is RED_BEAT else {"BENCH_STATIC": entries, "BENCH_PERIOD_S": PERIOD_S}
        if contender is RED_BEAT:
            store_for_redbeat(make_app(server.url), entries, period_s=PERIOD_S, last_run_s=PERIOD_S)
        with running(contender, server.url, **environment) as beat:
            return _window(server, beat.pid, entries, seconds)


def _window(server: EmbeddedServer, pid: int, entries: int, seconds: float) -> tuple[Accuracy, float]:
    """Receive for *seconds* after the warm-up; return what came and the scheduler's CPU in percent of one core."""
    receiver = Receiver(server.socket_path, QUEUE)
    time.sleep(WARM_UP_S)
    start_s, cpu_before_s = time.time(), cpu_s(pid)
    time.sleep(seconds)
    end_s, used_s = time.time(), cpu_s(pid) - cpu_before_s
    time.sleep(PERIOD_S / 2)
    return judge(receiver.stop(), entries=entries, start_s=start_s, end_s=end_s), 100 * used_s / (end_s - start_s)
