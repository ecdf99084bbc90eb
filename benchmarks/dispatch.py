"""Dispatch: how fast what is due at once reaches the queue, from the first to the last message seen from outside."""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from statistics import median

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
    parser.add_argument("--rounds", type=int, default=3, help="rounds; each contender but beat has its turn in each (default %(default)s)")
    parser.add_argument("--box", type=float, default=10.0, metavar="SECONDS", help="time box of RedBeat and beat (default %(default)s)")


@dataclass(frozen=True, slots=True)
class Round:
    """What the contenders did one right after the other: what slows the machine down for a while slows them all down."""

    one_time: Filling
    bare: Filling
    red_beat: Filling
    recurring: Filling
    stored_per_s: float
    saved_per_s: float


def run(options: argparse.Namespace) -> Report:
    """Measure all contenders, each on an empty server, round after round; ratios are the medians of the rounds' own."""
    rounds = [_round(options) for _ in range(options.rounds)]
    beat = _beat(options.recurring, options.box)
    report = Report("dispatch")
    for who, due, filling in (
        ("celery-tw, one-time", options.entries, attrgetter("one_time")),
        ("celery-tw, recurring", options.recurring, attrgetter("recurring")),
        ("bare Lua loop", options.entries, attrgetter("bare")),
        ("RedBeat", options.redbeat_entries, attrgetter("red_beat")),
    ):
        seen = [filling(each) for each in rounds]
        rate, share = median(each.per_s for each in seen), _ratio(rounds, filling, attrgetter("red_beat"))
        report.add(who, due_at_once=due, sent=min(each.count for each in seen), per_s=round(rate), of_redbeat=round(share, 2))
    report.add("celery beat", due_at_once=options.recurring, sent=beat.count, per_s=round(beat.per_s))
    report.add("celery-tw, stored by schedule_many", per_s=round(median(each.stored_per_s for each in rounds)))
    report.add("RedBeat, stored by save", per_s=round(median(each.saved_per_s for each in rounds)))
    report.find("one-time / RedBeat", _ratio(rounds, attrgetter("one_time"), attrgetter("red_beat")), at_least=50)
    report.find("one-time / bare Lua loop", _ratio(rounds, attrgetter("one_time"), attrgetter("bare")), at_least=0.5)
    report.find("recurring / RedBeat", _ratio(rounds, attrgetter("recurring"), attrgetter("red_beat")), at_least=20)
    stored = median(each.stored_per_s / each.saved_per_s for each in rounds)
    report.find("schedule_many of recurring / RedBeat's save", stored, at_least=10)
    return report


def _ratio(rounds: Sequence[Round], one: Callable[[Round], Filling], other: Callable[[Round], Filling]) -> float:
    return median(one(each).per_s / other(each).per_s for each in rounds)


def _round(options: argparse.Namespace) -> Round:
    one_time, bare = _one_time_and_bare(options.entries)
    red_beat, saved_per_s = _red_beat(options.redbeat_entries, options.box)
    recurring, stored_per_s = _recurring(options.recurring)
    return Round(one_time, bare, red_beat, recurring, stored_per_s, saved_per_s)


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
