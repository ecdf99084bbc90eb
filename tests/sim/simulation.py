"""Simulation: plays a trace and returns what came of it.

Schedulers and clients begin at once; operations and faults strike at their moments. When the last is over the world is healed: everybody
runs, the server answers, a held clock is accepted. Then nothing but time passes, `SETTLE_MS` of it, after which nothing may be left undone.
"""

import gc
import logging
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import redis

from celery_tw.errors import StoreRefused, StoreUnavailable
from celery_tw.integration.entries import storing
from celery_tw.settings import Settings
from celery_tw.stores.redis.election import Election
from tests.sim.faults import ANY_SCHEDULER, CallFault, Crash, Fault, FlushScripts, Outage, Reset, ServerClock, Stall, Stop, TrimNews
from tests.sim.faults import HostClock as HostClockStep
from tests.sim.ledger import Call, Event, Ledger, State
from tests.sim.lua import quick_scripts
from tests.sim.messages import FAIR
from tests.sim.scheduler import HostClock, SimulatedScheduler
from tests.sim.server import KEYS, Server, virtual_time
from tests.sim.timeline import Host, Timeline
from tests.sim.trace import ACTIVE_MS, BEGIN_MS, Trace
from tests.sim.wire import Caller
from tests.sim.worker import Worker
from tests.sim.workload import Client, Done

HEALED_MS = BEGIN_MS + ACTIVE_MS
"""No fault strikes from then on."""

SETTLE_MS = 9000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was seen when *trace* was played, up to *end_ms* on the server's clock.

    *idle_us* are the times in which the fair queue was empty and something waited for it, *laned* what is in lanes at the end, since when.
    """

    trace: Trace
    events: list[Event]
    done: list[Done]
    epochs: list[int]
    failures: list[tuple[str, BaseException]]
    states: Mapping[int, State]
    skips: Mapping[int, list[bytes]]
    backlogs: Mapping[str, int]
    quarantined: Mapping[str, bytes]
    leaders: int
    healed_us: int
    end_ms: int
    calls: int
    tape: list[Call] | None
    labels: Mapping[str, set[str]]
    strikes: list[tuple[int, Fault]]
    idle_us: list[tuple[int, int]]
    laned: Mapping[int, int]

    @property
    def trace_end_ms(self) -> int:
        """When the simulation ended, in ms since its beginning."""
        return self.healed_us // 1000 + SETTLE_MS

    def digest(self) -> str:
        """Return a fingerprint of all that happened."""
        lines = [f"{event.call.at_us} {event.call.host} {event.call.label} {event.pushed}" for event in self.events]
        lines += [f"{done.operation} {done.ended_us} {done.error}" for done in self.done]
        return sha256("\n".join(lines).encode()).hexdigest()[:16]


class Simulation:
    """One trace being played."""

    def __init__(self, trace: Trace, *, record: bool = False) -> None:
        self.trace = trace
        self.chance = random.Random(f"delays {trace.seed}")
        self.timeline = Timeline(self.chance)
        self.ledger = Ledger(KEYS, tape=[] if record else None)
        self.server = Server(self.timeline, self.ledger)
        fair = frozenset() if trace.work_ms is None else frozenset({FAIR.decode()})
        self.settings = Settings(namespace="sim", leader_lease_ms=trace.lease_ms, fair_queues=fair)
        self.worker: Worker | None = None
        self.clocks = {name: HostClock(self.timeline) for name in self._scheduler_names()}
        self.schedulers: dict[str, SimulatedScheduler] = {}
        self.clients: dict[str, Client] = {}
        self.starts = 0
        self.strikes: list[tuple[int, Fault]] = []
        self.shared_faults: list[CallFault] = []

    def _scheduler_names(self) -> list[str]:
        return [f"s{number}" for number in range(self.trace.schedulers)]

    def play(self) -> Outcome:
        """Play the trace to its end."""
        with virtual_time(self.server), quick_scripts(), _seldom_collected(), _quiet(), _virtual_sleep(self.timeline):
            for name in self._scheduler_names():
                self._start(name)
            for name in sorted({operation.client for operation in self.trace.operations}):
                own = [operation for operation in self.trace.operations if operation.client == name]
                self.clients[name] = Client(name, self.timeline, self.server, own, self.trace.lease_ms)
                self.clients[name].caller.on_crash = lambda fault, name=name: self._crash_client(name, fault)
            if self.trace.work_ms is not None:
                self.worker = Worker(self.timeline, self.server, work_ms=self.trace.work_ms)
            for fault in self.trace.faults:
                if fault.at_ms < HEALED_MS:
                    self.timeline.at(fault.at_ms * 1000, lambda fault=fault: self._strike(fault))
            self.timeline.run(HEALED_MS * 1000)
            self._heal()
            healed_us = self.timeline.now_us
            self.timeline.run(healed_us + SETTLE_MS * 1000)
            return self._outcome(healed_us)

    def _start(self, name: str) -> None:
        self.starts += 1
        scheduler = SimulatedScheduler(f"{name}.{self.starts}", self.timeline, self.server, self.clocks[name], self.settings)
        scheduler.caller.on_crash = lambda fault: self._crash(name, scheduler, fault)
        scheduler.caller.strikes = self.strikes
        scheduler.caller.shared_faults = self.shared_faults
        self.schedulers[name] = scheduler

    def _crash(self, name: str, scheduler: SimulatedScheduler, fault: Crash) -> None:
        scheduler.host.dead = True
        self._start_later(name, fault.restart_ms)

    def _start_later(self, name: str, after_ms: int) -> None:
        """Start a new process; when the world is healed meanwhile, that has started one."""
        gone = self.schedulers[name]
        self.timeline.at(self.timeline.now_us + after_ms * 1000, lambda: self._start(name) if self.schedulers[name] is gone else None)

    def _crash_client(self, name: str, fault: Crash) -> None:
        client = self.clients[name]
        client.host.dead = True
        client.start()
        client.caller.on_crash = lambda fault: self._crash_client(name, fault)
        self.timeline.freeze(client.host, fault.restart_ms * 1000)

    # Faults

    def _strike(self, fault: Fault) -> None:
        if not isinstance(fault, (CallFault, TrimNews)):
            self.strikes.append((self.timeline.now_us // 1000, fault))
        match fault:
            case CallFault():
                self._faults_of(fault.host).append(fault)
            case Stop():
                self._stop(fault)
            case Outage():
                self.server.away = True
                self.server.break_connections()
                self.timeline.at(self.timeline.now_us + fault.for_ms * 1000, self._come_back)
            case Stall():
                self.server.stalled_until_us = max(self.server.stalled_until_us, self.timeline.now_us + fault.for_ms * 1000)
            case Reset():
                self.server.break_connections()
            case ServerClock():
                self.server.offset_us += fault.step_ms * 1000
            case HostClockStep():
                self.clocks[fault.host].offset_ms += fault.step_ms
            case FlushScripts():
                self.server.fake.script_cache.clear()
            case TrimNews():
                self.server.before_news = lambda: self._trim(fault)

    def _faults_of(self, name: str) -> list[CallFault]:
        """Return the faults in wait for a host; those of one that takes no part strike nobody."""
        if name == ANY_SCHEDULER:
            return self.shared_faults
        host = self.schedulers.get(name) or self.clients.get(name)
        return host.caller.faults if host is not None else []

    def _stop(self, fault: Stop) -> None:
        scheduler = self.schedulers[fault.host]
        if not scheduler.host.dead:
            scheduler.stop(lambda: self._start_later(fault.host, fault.restart_ms))

    def _come_back(self) -> None:
        self.server.away = False

    def _trim(self, fault: TrimNews) -> None:
        self.strikes.append((self.timeline.now_us // 1000, fault))
        connection: Any = Caller(Host("operator"), self.timeline, self.server).client().connection_pool.make_connection()
        self.server.execute(connection._connect(), "xtrim", "operator", [b"XTRIM", KEYS.news.encode(), b"MAXLEN", b"0"])

    # The end

    def _heal(self) -> None:
        """Take every fault away that still waits or lasts."""
        self.server.away = False
        self.server.stalled_until_us = 0
        self.server.before_news = None
        self.shared_faults.clear()
        if self.worker is not None:
            self.worker.hurry()
        for client in self.clients.values():
            client.caller.faults.clear()
            client.host.frozen_until_us = 0
        for name, scheduler in list(self.schedulers.items()):
            scheduler.caller.faults.clear()
            scheduler.host.frozen_until_us = 0
            if scheduler.host.dead:
                self._start(name)
        operator = Caller(Host("operator"), self.timeline, self.server)
        self.timeline.spawn("operator", operator.host, lambda: self._accept_clock(operator.client()))

    def _accept_clock(self, client: redis.Redis) -> None:
        for _ in range(6):
            self.timeline.sleep(1_000_000)
            try:
                Election(client, KEYS).accept_clock()
            except (StoreUnavailable, StoreRefused):
                continue

    def _outcome(self, healed_us: int) -> Outcome:
        data = self.server.data
        self.server.data.time = self.server.now_us() / 1_000_000
        prefix = KEYS.skips(0)[:-1].encode()
        skips = {int(key[len(prefix) :]): list(data[key].value) for key in list(data) if key.startswith(prefix)}
        open_backlogs, bad = data.get(KEYS.backlogs.encode()), data.get(KEYS.bad.encode())
        return Outcome(
            trace=self.trace,
            events=self.ledger.events,
            done=sorted((done for client in self.clients.values() for done in client.done), key=lambda done: done.began_us),
            epochs=self.ledger.epochs,
            failures=self.timeline.failures,
            states=dict(self.ledger.states()),
            skips=skips,
            backlogs={member.decode(): int(score) for member, score in open_backlogs.value.items()} if open_backlogs else {},
            quarantined={member.decode(): why for member, why in bad.value.getall().items()} if bad else {},
            leaders=sum(scheduler.elector.leads() for scheduler in self.schedulers.values() if not scheduler.host.dead),
            healed_us=healed_us,
            end_ms=self.server.now_ms(),
            calls=self.ledger.calls,
            tape=self.ledger.tape,
            labels=self.ledger.labels,
            strikes=self.strikes,
            idle_us=self.ledger.idle_us,
            laned=self._laned(),
        )

    def _laned(self) -> dict[int, int]:
        lanes = (self.server.data.get(key.encode()) for key in KEYS.lanes_of(FAIR.decode()))
        return {int(member): int(score) for lane in lanes if lane for member, score in lane.value.items()}


def play(trace: Trace, *, record: bool = False) -> Outcome:
    """Play *trace* and return what came of it; *record* keeps the tape of all calls."""
    return Simulation(trace, record=record).play()


@contextmanager
def _seldom_collected() -> Iterator[None]:
    """Let Python look for garbage less often: a history keeps nearly all that it makes until it has been judged."""
    thresholds = gc.get_threshold()
    gc.set_threshold(50_000, 20, 20)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)


@contextmanager
def _quiet() -> Iterator[None]:
    """Let nothing be logged: every fault would be."""
    logger = logging.getLogger("celery_tw")
    disabled, logger.disabled = logger.disabled, True
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(level)
        logger.disabled = disabled


@contextmanager
def _virtual_sleep(timeline: Timeline) -> Iterator[None]:
    """Let a client that lost a race sleep in virtual time before it tries again."""

    class Sleeper:
        @staticmethod
        def sleep(seconds: float) -> None:
            timeline.sleep(int(seconds * 1_000_000))

    real, storing.time = storing.time, Sleeper  # type: ignore[assignment]
    try:
        yield
    finally:
        storing.time = real
