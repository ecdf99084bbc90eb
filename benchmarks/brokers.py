"""Brokers: how fast and how surely fires reach a RabbitMQ, or a Redis apart from the timetable, through the outbox."""

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from celery import Celery

from benchmarks.application import KWARGS, QUEUE, make_app
from benchmarks.contender import TIME_WHEEL, running
from benchmarks.filling import store_one_time, store_spread
from benchmarks.leader import wait_for_leader
from benchmarks.queue_watch import Filling, QueueWatch
from benchmarks.rabbit_queue import Received, declare, take_all, watch_filling
from benchmarks.report import Report
from benchmarks.server import start_server
from celery_tw import TimeWheel
from celery_tw.embedded import EmbeddedServer
from celery_tw.testing.rabbit_server import RabbitServer

PATIENCE_S = 120.0
SETTLE_S = 4.0
LOOK_S = 0.05


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--entries", type=int, default=10_000, help="one-time tasks due at once (default %(default)s)")
    parser.add_argument("--singly", type=int, default=1_000, help="apply_async calls for comparison (default %(default)s)")
    parser.add_argument("--loaded", type=int, default=5_000, help="tasks due in 10 s, while the broker is killed (default %(default)s)")
    parser.add_argument("--outage", type=float, default=60.0, metavar="SECONDS", help="how long the broker is down (default %(default)s)")
    parser.add_argument("--missed", type=int, default=10_000, help="tasks due while the broker is down (default %(default)s)")


def run(options: argparse.Namespace) -> Report:
    """Measure throughput against ``apply_async`` in the same run, then kill the broker, then keep it down."""
    report = Report("brokers")
    with RabbitServer() as rabbit:
        confirmed = _by_apply_async(rabbit.url, options.singly, confirm_publish=True)
        unconfirmed = _by_apply_async(rabbit.url, options.singly)
        through_outbox = _rabbit_throughput(rabbit, options.entries)
        killed = _killed(rabbit, options.loaded)
        down, drained = _down(rabbit, options.missed, options.outage)
    other_redis, to_redis = _redis_throughput(options.entries, options.singly)
    _add(report, "apply_async, confirm_publish, RabbitMQ", confirmed, of=confirmed)
    _add(report, "apply_async, no confirms, RabbitMQ", unconfirmed, of=confirmed)
    _add(report, "celery-tw, RabbitMQ with confirms", through_outbox, of=confirmed)
    _add(report, "celery-tw, drained after the outage", drained, of=confirmed)
    _add(report, "apply_async, Redis", to_redis, of=confirmed)
    _add(report, "celery-tw, a Redis apart", other_redis, of=confirmed)
    report.find("RabbitMQ with confirms / apply_async with confirm_publish", through_outbox.per_s / confirmed.per_s, at_least=5)
    report.find("lost, broker killed under load", killed["lost"], at_most=0)
    report.find("copies, broker killed under load", killed["copies"])
    report.find("copies with another mid", killed["strange"], at_most=0)
    report.find(f"lost, broker down for {options.outage:g} s", down["lost"], at_most=0)
    report.find("copies, broker down", down["copies"])
    report.find("out of order, broker down", down["disordered"], at_most=0)
    report.find("drained / full rate", drained.per_s / through_outbox.per_s)
    return report


def _add(report: Report, who: str, seen: Filling, *, of: Filling) -> None:
    report.add(
        who,
        sent=seen.count,
        seconds=round(seen.end_s - seen.start_s, 3),
        per_s=round(seen.per_s),
        of_confirmed=round(seen.per_s / of.per_s, 2),
    )


def _by_apply_async(url: str, count: int, **transport_options: Any) -> Filling:
    """Return how fast one process sends with ``apply_async``, its connection open already."""
    app = make_app(url, broker_transport_options=transport_options)
    work = app.tasks["benchmarks.work"]
    with app.producer_or_acquire() as producer:
        work.apply_async((0,), KWARGS, producer=producer)
        started_s = time.time()
        for number in range(count):
            work.apply_async((number,), KWARGS, producer=producer)
        seen = Filling(count, started_s, time.time())
    app.close()
    return seen


def _rabbit_throughput(rabbit: RabbitServer, count: int) -> Filling:
    with start_server() as server, server.client() as client:
        app = _app(rabbit.url, server)
        declare(rabbit.url, QUEUE)
        take_all(rabbit.url, QUEUE)
        store_one_time(app, count, at=datetime.now(UTC) + timedelta(seconds=count / 2000 + SETTLE_S))
        with running(TIME_WHEEL, rabbit.url, BENCH_TIMETABLE=server.url):
            wait_for_leader(app, client)
            return watch_filling(rabbit.url, QUEUE, total=count, patience_s=PATIENCE_S)


def _redis_throughput(count: int, singly: int) -> tuple[Filling, Filling]:
    with start_server() as server, start_server() as queues, server.client() as client:
        by_apply_async = _by_apply_async(queues.url, singly)
        with queues.client() as emptied:
            emptied.flushall()
        app = _app(queues.url, server)
        store_one_time(app, count, at=datetime.now(UTC) + timedelta(seconds=count / 2000 + SETTLE_S))
        with running(TIME_WHEEL, queues.url, BENCH_TIMETABLE=server.url):
            wait_for_leader(app, client)
            watch = QueueWatch(queues.socket_path, QUEUE, total=count, box_s=PATIENCE_S, patience_s=PATIENCE_S)
            return watch.wait(), by_apply_async


def _killed(rabbit: RabbitServer, count: int) -> dict[str, int]:
    """Kill the broker in the middle of a load, and start it again."""
    with start_server() as server, server.client() as client:
        app = _app(rabbit.url, server)
        take_all(rabbit.url, QUEUE)
        with running(TIME_WHEEL, rabbit.url, BENCH_TIMETABLE=server.url):
            wait_for_leader(app, client)
            store_spread(app, count, first=datetime.now(UTC) + timedelta(seconds=SETTLE_S), within_s=10.0)
            _wait_until_left(app, count * 2 // 3)
            rabbit.kill()
            rabbit.start()
            _wait_until_left(app, 0)
        return _judged(take_all(rabbit.url, QUEUE), count)


def _down(rabbit: RabbitServer, count: int, outage_s: float) -> tuple[dict[str, int], Filling]:
    """Let *count* tasks come due while the broker is down; return what became of them, and how fast they were sent at last."""
    with start_server() as server, server.client() as client:
        app = _app(rabbit.url, server)
        with running(TIME_WHEEL, rabbit.url, BENCH_TIMETABLE=server.url):
            wait_for_leader(app, client)
            rabbit.stop()
            down_s = time.time()
            store_spread(app, count, first=datetime.now(UTC), within_s=max(1.0, outage_s - SETTLE_S))
            time.sleep(max(0.0, down_s + outage_s - time.time()))
            rabbit.start()
            drained = watch_filling(rabbit.url, QUEUE, total=count, patience_s=PATIENCE_S)
            _wait_until_left(app, 0)
        return _judged(take_all(rabbit.url, QUEUE), count), drained


def _app(url: str, server: EmbeddedServer) -> Celery:
    return make_app(url, tw_redis_url=server.url)


def _wait_until_left(app: Celery, left: int) -> None:
    """Wait until at most *left* tasks are in the timetable or the outbox."""
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        status = TimeWheel(app).status()
        if status.waiting + status.claimed <= left:
            return
        time.sleep(LOOK_S)
    raise TimeoutError(f"more than {left} tasks are left after {PATIENCE_S:g} s")


def _judged(received: Sequence[Received], count: int) -> dict[str, int]:
    numbers = [each.number for each in received]
    firsts = list(dict.fromkeys(numbers))
    sends = Counter({(each.number, each.mid) for each in received})
    return {
        "lost": count - len(firsts),
        "copies": len(numbers) - len(firsts),
        "strange": len(sends) - len(firsts),
        "disordered": sum(later < earlier for earlier, later in pairwise(firsts)),
    }
