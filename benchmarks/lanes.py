"""Lanes: who starts when under a flood, with lanes and with the brokers' priorities, and what lanes cost."""

import argparse
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any
from uuid import uuid4

import redis
from celery import Celery
from kombu import pools
from kombu.connection import Connection

from benchmarks.application import KWARGS, QUEUE, make_app
from benchmarks.contender import TIME_WHEEL, running
from benchmarks.crowd import Crowd
from benchmarks.lane_worker import STARTS, URGENCY, lane_app, leading, working
from benchmarks.leader import wait_for_leader
from benchmarks.process_figures import cpu_s
from benchmarks.queue_watch import QueueWatch
from benchmarks.report import Report
from benchmarks.server import start_server
from celery_tw import TimeWheel
from celery_tw.core.lane import LANES
from celery_tw.embedded import EmbeddedServer
from celery_tw.integration.connected import Connected
from celery_tw.integration.node import Node
from celery_tw.stores.redis.election import Election
from celery_tw.testing.rabbit_server import RabbitServer

ASKED = (50, 30, 20)
LOOK_S = 0.02
PATIENCE_S = 120.0
LEASE_S = 300
"""Of a leader without threads: longer than it takes to let a million messages wait."""

SETTLE_S = 1.0
CALLS_A_ROUND = 50
BATCH = 500
AMPLE = 1_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--stored", type=int, default=600, help="tasks of each lane that wait when the worker starts (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=40, help=f"rounds of {CALLS_A_ROUND} calls of each kind (default %(default)s)")
    parser.add_argument("--few", type=int, default=1_000, help="messages that wait (default %(default)s)")
    parser.add_argument("--many", type=int, default=1_000_000, help="messages that wait, at the other end (default %(default)s)")
    parser.add_argument("--batches", type=int, default=40, help=f"admissions of {BATCH} messages that are timed (default %(default)s)")
    parser.add_argument("--admitted", type=int, default=20_000, help="messages that a leader's process admits (default %(default)s)")


def run(options: argparse.Namespace) -> Report:
    """Flood each contender, then measure what lanes cost."""
    report = Report("lanes")
    with RabbitServer() as rabbit:
        for who, kind, url in (
            ("celery-tw, Redis", "lanes", None),
            ("Celery's priorities, Redis", "redis", None),
            ("celery-tw, RabbitMQ", "lanes", rabbit.url),
            ("x-max-priority, RabbitMQ", "rabbit", rabbit.url),
        ):
            _flood(report, who, kind, url, options.stored)
    _calls(report, options.rounds)
    _admissions(report, options.few, options.many, options.batches)
    _throughput(report, options.admitted)
    return report


# Flood


def _flood(report: Report, who: str, kind: str, url: str | None, stored: int) -> None:
    """Store *stored* tasks of each lane, then start one worker; add what the first half of the starts of two lanes' worth were."""
    with start_server() as server, server.client() as client:
        broker_url = url or server.url
        app = lane_app(broker_url, server.url, kind)
        _forget_queue(url)
        with _leader(app, client, broker_url, server, kind):
            for _ in range(stored):
                for lane in LANES:
                    app.tasks["benchmarks.begin"].apply_async((lane, time.time()), **URGENCY[kind][lane])
            begun_s = time.time()
            with working(broker_url, server.url, kind):
                starts = _starts(client, stored)
    counted = Counter(lane for lane, _ in starts[: stored // 2])
    shares = [100 * counted[lane] / (stored // 2) for lane in LANES]
    waits = {lane: [moment - begun_s for name, moment in starts if name == lane] for lane in LANES}
    report.add(
        who,
        **{f"{lane}_pct": round(share, 1) for lane, share in zip(LANES, shares, strict=True)},
        **{f"{lane}_wait_s": round(median(waits[lane]), 2) if waits[lane] else None for lane in LANES},
        first_low_start=next((place for place, (lane, _) in enumerate(starts, 1) if lane == "low"), None),
    )
    if kind == "lanes":
        report.find(
            f"farthest share from 50/30/20 of {who}, points", max(abs(s - a) for s, a in zip(shares, ASKED, strict=True)), at_most=2
        )


@contextmanager
def _leader(app: Celery, client: redis.Redis, url: str, server: EmbeddedServer, kind: str) -> Iterator[None]:
    if kind != "lanes":
        yield
        return
    with leading(url, server.url):
        wait_for_leader(app, client)
        time.sleep(SETTLE_S)
        yield


def _forget_queue(url: str | None) -> None:
    """Delete the queue of a broker that is shared by contenders, for its arguments differ, and what kombu knows of it."""
    pools.reset()
    if url is not None:
        with Connection(url) as connection:
            connection.default_channel.queue_delete(QUEUE)


def _starts(client: redis.Redis, number: int) -> list[tuple[str, float]]:
    """Return lane and moment of the first *number* starts."""
    deadline_s = time.monotonic() + PATIENCE_S
    while client.llen(STARTS) < number:
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"only {client.llen(STARTS)} of {number} tasks started within {PATIENCE_S:g} s")
        time.sleep(LOOK_S)
    lines = [line.decode().split() for line in client.lrange(STARTS, 0, number - 1)]
    return [(lane, float(moment)) for lane, _, moment in lines]


# Cost


@dataclass(frozen=True, slots=True)
class Cost:
    """What one call or admission takes, in µs: by the clock, and of processor time."""

    wall_us: float
    cpu_us: float


def _calls(report: Report, rounds: int) -> None:
    """Time calls to a fair queue that has room beside calls to one that is not fair, in turns."""
    with start_server() as server, server.client() as client, running(TIME_WHEEL, server.url, BENCH_FAIR_CAPACITY=AMPLE):
        plain, fair = make_app(server.url), make_app(server.url, tw_fair_queues=[QUEUE], tw_fair_capacity=AMPLE)
        TimeWheel(plain)
        TimeWheel(fair)
        wait_for_leader(fair, client)
        keys = Connected(fair).keys
        while not client.exists(keys.room(QUEUE)):
            time.sleep(LOOK_S)
        times: dict[str, list[Cost]] = {"not fair": [], "fair, with room": []}
        for _ in range(rounds):
            for app, seen in zip((plain, fair), times.values(), strict=True):
                seen.append(_timed(app))
        waited = sum(client.zcard(key) for key in keys.lanes_of(QUEUE))
    costs = {who: _median(seen) for who, seen in times.items()}
    for who, cost in costs.items():
        report.add(f"apply_async to a queue that is {who}", wall_us=round(cost.wall_us), cpu_us=round(cost.cpu_us))
    bare, with_room = costs.values()
    report.find("what a fair queue adds to a call, ms", (with_room.wall_us - bare.wall_us) / 1000, at_most=1.0)
    report.find("what a fair queue adds to a call, ms of processor time", (with_room.cpu_us - bare.cpu_us) / 1000, at_most=1.0)
    report.find("calls that had to wait although there was room", waited, at_most=0)


def _timed(app: Celery) -> Cost:
    """Return what one call takes, over a round."""
    work, wall_s, cpu_s = app.tasks["benchmarks.work"], time.perf_counter(), time.process_time()
    for number in range(CALLS_A_ROUND):
        work.apply_async((number,), KWARGS)
    scale = 1e6 / CALLS_A_ROUND
    return Cost((time.perf_counter() - wall_s) * scale, (time.process_time() - cpu_s) * scale)


def _median(costs: Sequence[Cost]) -> Cost:
    return Cost(median(cost.wall_us for cost in costs), median(cost.cpu_us for cost in costs))


def _fair_app(server: EmbeddedServer, **settings: Any) -> Celery:
    app = make_app(server.url, tw_fair_queues=[QUEUE], **settings)
    TimeWheel(app)
    return app


def _held_crowd(app: Celery, client: redis.Redis, waiting: int) -> Crowd:
    """Return a crowd made under a leader that admits nothing."""
    parts = Connected(app)
    Election(client, parts.keys).acquire(uuid4().hex, lease_ms=int(PATIENCE_S * 1000))
    crowd = Crowd(app, client)
    crowd.grow(waiting, since_ms=parts.timetable.now_ms())
    client.delete(parts.keys.leader)
    return crowd


def _admissions(report: Report, few: int, many: int, batches: int) -> None:
    """Time admissions in the leader's steps while *few* and while *many* messages wait, in turns."""
    with _waiting(few) as scarce, _waiting(many) as ample:
        seen: dict[int, list[Cost]] = {few: [], many: []}
        for _ in range(batches):
            for number, engine in ((few, scarce), (many, ample)):
                seen[number].append(engine.admit())
    costs = {number: _median(taken) for number, taken in seen.items()}
    for number, cost in costs.items():
        report.add(f"admission, {number:,} wait", wall_us=round(cost.wall_us, 1), cpu_us=round(cost.cpu_us, 1))
    report.find("cost of an admission with many waiting / with few", costs[many].wall_us / costs[few].wall_us, at_most=1.3)
    report.find("the same, of processor time", costs[many].cpu_us / costs[few].cpu_us, at_most=1.3)


@dataclass(frozen=True, slots=True)
class Admitting:
    """A leader without threads, and what waits."""

    node: Node
    crowd: Crowd
    client: redis.Redis
    waiting: int

    def admit(self) -> Cost:
        """Admit one batch; return what each of its messages took, Redis included, and fill up what waits."""
        node = self.node
        node.elector.step()
        term = node.elector.term
        assert term is not None
        node.duties.rooms.begin(term.epoch)
        before = node.duties.rooms.given(QUEUE)
        node.duties.rooms.measured(QUEUE, target=min(BATCH, self.waiting), length=0, given=before, waiting=self.waiting)
        wall_s, cpu_s = time.perf_counter(), self._cpu_s()
        node.engine.admission.admit(term.epoch, node.parts.redis_time.now_ms())
        scale = 1e6 / max(node.duties.rooms.given(QUEUE) - before, 1)
        cost = Cost((time.perf_counter() - wall_s) * scale, (self._cpu_s() - cpu_s) * scale)
        self.client.delete(QUEUE)
        self.crowd.grow(self.waiting - self.crowd.waiting(), since_ms=node.parts.redis_time.now_ms())
        return cost

    def _cpu_s(self) -> float:
        """Return the processor time of this process and of its Redis."""
        used = self.client.info("cpu")
        return time.process_time() + float(used["used_cpu_user"]) + float(used["used_cpu_sys"])


@contextmanager
def _waiting(number: int) -> Iterator[Admitting]:
    """Let *number* messages wait, and lead."""
    with start_server() as server, server.client() as client:
        app = _fair_app(server, tw_leader_lease=LEASE_S)
        crowd = _held_crowd(app, client, number)
        node = Node(app)
        node.elector.step()
        term = node.elector.term
        assert term is not None
        node.engine.dispatch.take_office(term.epoch)
        admitting = Admitting(node, crowd, client, number)
        for _ in range(2):  # the first ones learn the queue's key
            admitting.admit()
        yield admitting
        node.close()


def _throughput(report: Report, number: int) -> None:
    """Let a leader's process fill an empty queue that has room for *number* messages."""
    with start_server() as server, server.client() as client:
        _held_crowd(_fair_app(server), client, 2 * number)
        with running(TIME_WHEEL, server.url, BENCH_FAIR_CAPACITY=number) as leader:
            watch = QueueWatch(server.socket_path, QUEUE, total=number, box_s=PATIENCE_S, patience_s=PATIENCE_S)
            before_s, redis_before_s = cpu_s(leader.pid), _redis_cpu_s(client)
            seen = watch.wait()
            leader_s, redis_s = cpu_s(leader.pid) - before_s, _redis_cpu_s(client) - redis_before_s
    report.add(
        f"a leader's process, {number:,} admitted", per_s=round(seen.per_s), leader_cpu_s=round(leader_s, 2), redis_cpu_s=round(redis_s, 2)
    )
    report.find("admissions a second of a leader's process, Redis", seen.per_s, at_least=10_000)


def _redis_cpu_s(client: redis.Redis) -> float:
    used = client.info("cpu")
    return float(used["used_cpu_user"]) + float(used["used_cpu_sys"])
