"""Fail-over: two schedulers, the leader killed; the gap between its last message and the stand-by's first, and the slots lost."""

import argparse
import math
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from subprocess import Popen

from benchmarks.application import QUEUE, make_app
from benchmarks.contender import RED_BEAT, TIME_WHEEL, Contender, running
from benchmarks.filling import store_recurring
from benchmarks.filling_redbeat import store_for_redbeat
from benchmarks.leader import leader_pid, wait_for_leader
from benchmarks.receiver import Received, Receiver
from benchmarks.report import Report
from benchmarks.server import start_server

FINE_PERIOD_S = 0.02
"""The time wheel's entry fires this often, so that the gap shows the fail-over and hardly the schedule."""
REDBEAT_PERIOD_S = 1.0
STEADY_S = 4.0
AFTER_S = 8.0
LOOP_S = 1.0
HEAD_START_S = 3.0
MARGIN_S = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeat", type=int, default=3, help="runs of each kind (default %(default)s); the table shows each")


def run(options: argparse.Namespace) -> Report:
    """Measure a kill and a polite end of the leader, default settings, and RedBeat with a lock of 5 s instead of its 25 minutes."""
    report = Report("failover")
    killed = [_time_wheel(report, "SIGKILL", signal.SIGKILL) for _ in range(options.repeat)]
    ended = [_time_wheel(report, "SIGTERM", signal.SIGTERM) for _ in range(options.repeat)]
    peer_s = _red_beat()
    report.add("RedBeat, loop 1 s, SIGKILL", gap_s=round(peer_s, 3))
    report.find("gap after SIGKILL, worst, s", max(gap_s for gap_s, _ in killed), at_most=4)
    report.find("gap after SIGTERM, worst, s", max(gap_s for gap_s, _ in ended), at_most=0.25)
    report.find("slots lost", sum(lost for _, lost in killed + ended), at_most=0)
    return report


def _time_wheel(report: Report, what: str, how: signal.Signals) -> tuple[float, int]:
    with start_server() as server, server.client() as client:
        app = make_app(server.url)
        store_recurring(app, 1, period_s=FINE_PERIOD_S, anchor=datetime.now(UTC).replace(microsecond=0))
        receiver = Receiver(server.socket_path, QUEUE)
        with _two(TIME_WHEEL, server.url) as beats:
            wait_for_leader(app, client)
            time.sleep(STEADY_S)
            ended_s = _end(next(beat for beat in beats if beat.pid == leader_pid(app, client)), how)
            time.sleep(AFTER_S)
            received = receiver.stop()
    gap_s = longest_gap(received, from_s=ended_s - MARGIN_S)
    lost = slots_lost(received)
    report.add(f"celery-tw, {what}", gap_s=round(gap_s, 3), slots_lost=lost)
    return gap_s, lost


def _red_beat() -> float:
    with start_server() as server:
        store_for_redbeat(make_app(server.url), 1, period_s=REDBEAT_PERIOD_S, last_run_s=REDBEAT_PERIOD_S)
        receiver = Receiver(server.socket_path, QUEUE)
        with _two(RED_BEAT, server.url, BENCH_LOOP_S=LOOP_S) as beats:
            time.sleep(STEADY_S)
            ended_s = _end(beats[0], signal.SIGKILL)
            time.sleep(AFTER_S)
            return longest_gap(receiver.stop(), from_s=ended_s - REDBEAT_PERIOD_S - MARGIN_S)


@contextmanager
def _two(contender: Contender, url: str, **environment: object) -> "Iterator[list[Popen[bytes]]]":
    """Run two schedulers; the first has a head start, which makes it the leader."""
    with ExitStack() as stack:
        first = stack.enter_context(running(contender, url, **environment))
        time.sleep(HEAD_START_S)
        yield [first, stack.enter_context(running(contender, url, **environment))]


def _end(process: "Popen[bytes]", how: signal.Signals) -> float:
    ended_s = time.time()
    process.send_signal(how)
    return ended_s


def longest_gap(received: Sequence[Received], *, from_s: float) -> float:
    """Return the longest time without a message, in seconds, from *from_s* on."""
    times_s = [message.at_s for message in received if message.at_s >= from_s]
    return max((later - earlier for earlier, later in pairwise(times_s)), default=math.inf)


def slots_lost(received: Sequence[Received]) -> int:
    """Return how many slots between the first and the last that came did not come."""
    slots_ms = {message.slot_ms for message in received if message.slot_ms is not None}
    return round((max(slots_ms) - min(slots_ms)) / (1000 * FINE_PERIOD_S)) + 1 - len(slots_ms) if slots_ms else 0
