"""Dispatch: how fast what is due at once reaches the queue, from the first to the last message seen from outside."""

import argparse
import sys
import time
from datetime import UTC, datetime, timedelta

from celery import Celery

from benchmarks import bare_loop
from benchmarks.application import QUEUE, make_app
from benchmarks.contender import CELERY_BEAT, RED_BEAT, TIME_WHEEL, Contender, running
from benchmarks.filling import store_one_time, store_recurring, stored_messages
from benchmarks.filling_redbeat import store_for_redbeat
from benchmarks.leader import wait_for_leader
from benchmarks.queue_watch import Filling, QueueWatch
from benchmarks.report import Report
from benchmarks.server import start_server
from celery_tw.embedded import EmbeddedServer

PATIENCE_S = 120.0
PERIOD_S = 3600.0
SETTLE_S = 4.0
"""How long before the common due time the leader is started: longer than it takes ahead of time."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--entries", type=int, default=50_000, help="one-time tasks due at once (default %(default)s)")
    parser.add_argument("--recurring", type=int, default=10_000, help="recurring entries due at once (default %(default)s)")
    parser.add_argument("--redbeat-entries", type=int, default=5_000, help="entries due at once for RedBeat (default %(default)s)")
    parser.add_argument("--box", type=float, default=10.0, metavar="SECONDS", help="time box of RedBeat and beat (default %(default)s)")


def run(options: argparse.Namespace) -> Report:
    """Measure all contenders, each on an empty server."""
    report = Report("dispatch")
    one_time, bare = _one_time_and_bare(options.entries)
    recurring, stored_per_s = _recurring(options.recurring)
    red_beat, saved_per_s = _red_beat(options.redbeat_entries, options.box)
    beat = _beat(options.recurring, options.box)
    _add(report, "celery-tw, one-time", options.entries, one_time, baseline=red_beat)
    _add(report, "celery-tw, recurring", options.recurring, recurring, stored_per_s, baseline=red_beat)
    _add(report, "bare Lua loop", options.entries, bare, baseline=red_beat)
    _add(report, "RedBeat", options.redbeat_entries, red_beat, saved_per_s, baseline=red_beat)
    _add(report, "celery beat", options.recurring, beat, baseline=red_beat)
    report.find("one-time / RedBeat", one_time.per_s / red_beat.per_s, at_least=50)
    report.find("one-time / bare Lua loop", one_time.per_s / bare.per_s, at_least=0.5)
    report.find("recurring / RedBeat", recurring.per_s / red_beat.per_s, at_least=20)
    report.find("schedule_many of recurring / RedBeat's save", stored_per_s / saved_per_s, at_least=10)
    return report


def _add(report: Report, who: str, due: int, seen: Filling, stored_per_s: float | None = None, *, baseline: Filling) -> None:
    report.add(
        who,
        due_at_once=due,
        sent=seen.count,
        seconds=round(seen.end_s - seen.start_s, 3),
        per_s=round(seen.per_s),
        of_redbeat=round(seen.per_s / baseline.per_s, 2),
        stored_per_s=None if stored_per_s is None else round(stored_per_s),
    )


def _one_time_and_bare(count: int) -> tuple[Filling, Filling]:
    with start_server() as server, server.client() as client:
        app = make_app(server.url)
        due = datetime.now(UTC) + timedelta(seconds=count / 2000 + SETTLE_S)
        store_one_time(app, count, at=due)
        messages = stored_messages(app, client)
        seen = _fired(server, app, due, count)
        client.flushall()
        bare_loop.store(client, messages)
        return seen, _bare(server, count)


def _bare(server: EmbeddedServer, count: int) -> Filling:
    with server.client() as client:
        watch = QueueWatch(server.socket_path, QUEUE, total=count, box_s=PATIENCE_S, patience_s=PATIENCE_S)
        bare_loop.run(client, QUEUE, count=count)
        return watch.wait()


def _recurring(count: int) -> tuple[Filling, float]:
    with start_server() as server:
        app = make_app(server.url)
        due = datetime.now(UTC) + timedelta(seconds=count / 5000 + SETTLE_S)
        stored_s = store_recurring(app, count, period_s=PERIOD_S, anchor=due)
        return _fired(server, app, due, count), count / stored_s


def _fired(server: EmbeddedServer, app: Celery, due: datetime, count: int) -> Filling:
    with server.client() as client, running(TIME_WHEEL, server.url):
        wait_for_leader(app, client)
        late_s = time.time() - due.timestamp()
        if late_s > 0:
            print(f"the leader began {late_s:.1f} s after the entries were due", file=sys.stderr)
        watch = QueueWatch(server.socket_path, QUEUE, total=count, box_s=PATIENCE_S, patience_s=PATIENCE_S)
        return watch.wait()


def _red_beat(count: int, box_s: float) -> tuple[Filling, float]:
    with start_server() as server:
        app = make_app(server.url)
        stored_s = store_for_redbeat(app, count, period_s=PERIOD_S, last_run_s=2 * PERIOD_S)
        return _boxed(server, RED_BEAT, count, box_s), count / stored_s


def _beat(count: int, box_s: float) -> Filling:
    with start_server() as server:
        overdue = {"BENCH_STATIC": count, "BENCH_PERIOD_S": PERIOD_S, "BENCH_OVERDUE": count}
        return _boxed(server, CELERY_BEAT, count, box_s, **overdue)


def _boxed(server: EmbeddedServer, contender: Contender, count: int, box_s: float, **environment: object) -> Filling:
    """Return what *contender* sends of *count* overdue entries in *box_s* after its first message."""
    watch = QueueWatch(server.socket_path, QUEUE, total=count, box_s=box_s, patience_s=PATIENCE_S)
    with running(contender, server.url, **environment):
        return watch.wait()
