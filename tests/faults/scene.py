"""Scene: the real processes of one scenario, what is written of them, and the verdict.

::

    settings ──▶ schedulers ──▶ Redis ──▶ queue ──▶ QueueReader ──▶ ledger ──▶ checker
                     ▲            │                                   ▲
                  strikes         └── MONITOR ──▶ ClaimsWatch ────────┘

A scenario asks for schedulers, strikes, and lets the scene settle. Each strike is noted with the time in which it may make slots late. No
scheduler is asked what it did.
"""

import atexit
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import redis
from celery import Celery

from celery_tw import TimeWheel
from celery_tw.embedded import EmbeddedServer
from celery_tw.errors import StoreRefused, StoreUnavailable
from celery_tw.testing.checker import Findings, check
from celery_tw.testing.ledger import Ledger, What
from celery_tw.testing.oracles import Account, Budget, Rest, Window, early, stuck
from celery_tw.testing.rabbit_server import RabbitServer
from celery_tw.testing.recording import recorded_skips
from celery_tw.testing.slots import Grid, Slots
from tests.closing import close
from tests.faults.claims_watch import ClaimsWatch
from tests.faults.one_time_tasks import OneTimeTasks
from tests.faults.outcome import Played
from tests.faults.queue_reader import QueueReader
from tests.faults.rabbit_reader import RabbitReader
from tests.faults.wall_clock import WallClock
from tests.processes.container import ProcessContainer
from tests.processes.processes import Processes
from tests.waiting import wait_until

LEASE_MS = 3000
PROMISED_MS = LEASE_MS + 1000
"""A dead leader is replaced within its lease and a second: slots later than this after a strike's end are counted as late."""

PATIENCE_S = 60.0
ROUNDING_MS = 2
VIOLATIONS_KEPT = 5
TOLERANCE_S = 120.0
"""A slot that waits for its turn counts as late, not as missed, however slow this machine is."""


def spread(number: int = 50, *, period_ms: int = 1000) -> list[Grid]:
    """Return grids of *number* entries whose slots are spread evenly over the period."""
    return [Grid(f"entry-{index}", period_ms, index * period_ms // number) for index in range(number)]


@dataclass
class Strike:
    """One fault, its time, and when the first claim of the next term came (None as long as there was none)."""

    what: str
    from_ms: int
    until_ms: int


@dataclass
class Scene:
    """Servers and schedulers in *folder*; *dice* decides what is left to chance."""

    folder: Path
    dice: random.Random
    server: EmbeddedServer
    grids: list[Grid] = field(default_factory=spread)
    clock: WallClock | None = None
    rabbit: RabbitServer | None = None
    queue: str = "celery"
    strikes: list[Strike] = field(default_factory=list)
    beats: list[ProcessContainer] = field(default_factory=list)
    options: Mapping[str, Any] = field(default_factory=lambda: {"tolerance": TOLERANCE_S})
    tasks: OneTimeTasks | None = None
    _struck: bool = False
    _stored: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.processes = Processes(self.folder, url=self.server.url)
        self.ledger = Ledger(self.folder / "observed")
        self.conf = self._conf()
        self.rest: Rest | None = None
        self.app = Celery("shop", set_as_current=False)
        self.app.conf.update(self.conf)
        self.app.task(name="shop.record", shared=False)(runs_elsewhere)
        self.timewheel = TimeWheel(self.app)
        self.reader = self._reader()
        self.claims = ClaimsWatch(self.ledger, self.connect)
        self.connected_to = self.server

    def _conf(self) -> dict[str, Any]:
        if self.rabbit is None:
            return {"broker_url": self.server.url, "result_backend": self.server.url}
        return {"broker_url": self.rabbit.url, "tw_redis_url": self.server.url, "task_default_queue": f"tw-{uuid4().hex}"}

    def _reader(self) -> QueueReader | RabbitReader:
        if self.rabbit is None:
            return QueueReader(self.ledger, self.connect, now_ms=self.now_ms, queue=self.queue)
        return RabbitReader(self.ledger, self.rabbit.url, self.conf["task_default_queue"], now_ms=self.now_ms)

    def connect(self, **options: Any) -> redis.Redis:
        """Return a client of the server that counts, past all wires."""
        return self.connected_to.client(**options)

    def lead_to(self, server: EmbeddedServer) -> None:
        """Take *server* for the one that counts from now on."""
        self.connected_to = server
        close(self.app)
        self.app = Celery("shop", set_as_current=False)
        self.app.conf.update(self.conf, broker_url=server.url, result_backend=server.url)
        self.app.task(name="shop.record", shared=False)(runs_elsewhere)
        self.timewheel = TimeWheel(self.app)

    def now_ms(self) -> int:
        """Return the time of the server that counts."""
        return time.time_ns() // 1_000_000 + (self.clock.offset_ms if self.clock else 0)

    # Schedulers

    def start(self, number: int = 2, *, watch_claims: bool = True, **settings: Any) -> list[ProcessContainer]:
        """Start observers and *number* schedulers; return the latter when one leads and every entry has fired."""
        if watch_claims:
            self.claims.start()
        self.reader.start()
        beats = [self.beat(**settings) for _ in range(number)]
        for beat in beats:
            beat.ready()
        self.leader()
        self.wait_for_fires()
        return beats

    def beat(self, **settings: Any) -> ProcessContainer:
        """Start a scheduler of the time wheel."""
        conf = {**self.conf, **settings.pop("conf", {})}
        beat = self.processes.beat(**{"schedule": self.schedule(), "conf": conf, **settings})
        self.beats.append(beat)
        return beat

    def schedule(self) -> dict[str, Any]:
        """Return ``beat_schedule`` with the entries of the grids."""
        return {
            grid.entry: {
                "task": "shop.record",
                "schedule": {"every": grid.period_ms / 1000, "anchor_ms": grid.anchor_ms},
                "options": {"tw": dict(self.options), **({"queue": self.queue} if self.queue != "celery" else {})},
            }
            for grid in self.grids
        }

    def leader(self, *, other_than: ProcessContainer | None = None) -> ProcessContainer:
        """Return the scheduler that leads, as soon as one does."""
        return wait_until(lambda: self._leader(other_than), PATIENCE_S, message="a scheduler to lead")

    def _leader(self, other_than: ProcessContainer | None) -> ProcessContainer | None:
        try:
            owner = self.timewheel.status().leader or "::"
        except (StoreUnavailable, StoreRefused):
            return None
        leading = (beat for beat in self.beats if owner.split(":")[1] == str(beat.pid) and beat is not other_than)
        return next(leading, None)

    # Strikes

    @contextmanager
    def strike(self, what: str) -> Iterator[Strike]:
        """Note that for as long as the block lasts a fault is there."""
        strike = Strike(what, self.now_ms(), self.now_ms())
        self.strikes.append(strike)
        with self._tasks_meanwhile():
            yield strike
        strike.until_ms = max(strike.until_ms, self.now_ms())

    def store_tasks(self) -> None:
        """Store the one-time tasks of the next strike now, where the strike itself leaves no time for it."""
        if self.tasks is not None:
            self._stored = self.tasks.store(self.app, self.timewheel, now_ms=self.now_ms())

    @contextmanager
    def _tasks_meanwhile(self) -> Iterator[None]:
        """Store one-time tasks before the outermost of several faults, and remove some of them when it is over."""
        if self.tasks is None or self._struck:
            yield
            return
        if not self._stored:
            self.store_tasks()
        self._struck, names, self._stored = True, self._stored, []
        try:
            yield
        finally:
            self._struck = False
        self.tasks.remove_some(self.timewheel, names)

    def kill(self, beat: ProcessContainer) -> None:
        """Kill a scheduler with SIGKILL and see it gone."""
        with self.strike("kill"):
            beat.send(signal.SIGKILL)
            beat.wait()

    def revive(self, beat: ProcessContainer) -> None:
        """Start a scheduler that has ended, and wait until it says once more that it has started."""
        (self.folder / f"{beat.name}.pid").unlink(missing_ok=True)
        before = beat.logs().count(beat.ready_prompt)
        beat.start()
        wait_until(lambda: beat.logs().count(beat.ready_prompt) > before, PATIENCE_S, message=f"{beat.name} to start again")

    def pause(self, seconds: float) -> None:
        """Let so much time pass while a fault lasts, or between two: the length is the fault's, and nothing is waited for."""
        time.sleep(seconds)

    def revive_server(self) -> None:
        """Start the server again, on what is in its data folder and with its clock."""
        with environment(self.clock.environment if self.clock else {}):
            self.server.restart()

    # Waiting

    def wait_for_fires(self, after_ms: int = 0, *, timeout_s: float = PATIENCE_S) -> None:
        """Wait until every entry has fired for a slot after *after_ms*."""
        names = [grid.entry for grid in self.grids]
        what = f"{len(names)} entries to fire after {after_ms}"
        wait_until(lambda: all(self.reader.last_ms.get(name, 0) > after_ms for name in names), timeout_s, message=what)

    def wait_for_term_after(self, ms: int) -> int:
        """Return how long after *ms* another epoch claimed for the first time."""
        first_ms = wait_until(
            lambda: next((at_ms for at_ms in list(self.claims.terms_ms.values()) if at_ms > ms), None),
            PATIENCE_S,
            message="another term to claim",
        )
        return first_ms - ms

    # The verdict

    def recovered_ms(self) -> int:
        """Return the moment from which every entry fires again."""
        self.leader()
        now_ms = self.now_ms()
        self.wait_for_fires(now_ms)
        return self.now_ms()

    def settle(self, *, for_ms: int = 2000, quiet_s: float = PATIENCE_S) -> int:
        """Let everything run on and be drained; return the moment up to which all slots must have fired."""
        until_ms = self.now_ms() + for_ms
        self.wait_for_fires(until_ms, timeout_s=quiet_s + for_ms / 1000)
        self.wait_until_drained(quiet_s)
        return until_ms

    def wait_until_drained(self, timeout_s: float = PATIENCE_S) -> None:
        """Wait until nothing is left over."""
        wait_until(self._is_drained, timeout_s, message="the backlogs and the outbox to be drained")

    def _is_drained(self) -> bool:
        try:
            status = self.timewheel.status()
        except (StoreUnavailable, StoreRefused):
            return False
        self.rest = Rest.of(status)
        return not any(stuck(self.rest))

    def judge(
        self,
        *,
        from_ms: int,
        until_ms: int,
        slots: Sequence[Slots] | None = None,
        copies_run: bool = False,
        except_rules: Sequence[str] = (),
        takeovers_ms: Sequence[int] = (),
        note: str = "",
        guard_ms: int = ROUNDING_MS,
        skips: bool = True,
    ) -> Played:
        """Return the verdict on the window (from, until]; *except_rules* does not hold here, by what is documented.

        *guard_ms* is for what is received, and seen a moment later, when the server's clock goes back; claims bear the server's own time.
        """
        account = self.account()
        self.reader.stop()
        self.claims.stop()
        expected: Sequence[Slots] = self.grids if slots is None else slots
        lines = self.ledger.lines()
        if skips:
            lines = [*lines, *recorded_skips(self.timewheel, [each.entry for each in expected])]
        if self.tasks is not None:
            expected = [*expected, *self.tasks.slots()]
        found = check(
            lines,
            expected,
            Window(from_ms, until_ms),
            effect=What.RECEIVED,
            copies_run=copies_run,
            guard_ms=guard_ms,
            budget=Budget(PROMISED_MS, tuple(Window(strike.from_ms, strike.until_ms) for strike in self.strikes)),
            rest=self.rest,
            account=account,
        )
        claims = [line for line in lines if line.what is What.CLAIMED]
        found = replace(found, violations=(*found.violations, *(early(claims, guard_ms=ROUNDING_MS) if guard_ms > ROUNDING_MS else ())))
        return _played(found, except_rules, faults=len(self.strikes), takeovers_ms=takeovers_ms, note=note)

    def account(self) -> Account | None:
        """Return where the one-time tasks are, once all that are not due tomorrow have had their time."""
        if self.tasks is None:
            return None
        wait_until(lambda: self.tasks.are_settled(self.timewheel, now_ms=self.now_ms()), PATIENCE_S, message="the one-time tasks to fire")
        return self.tasks.account(self.timewheel)

    def end(self) -> None:
        """End all that was started; may be called twice."""
        self.processes.end()
        self.reader.stop()
        self.claims.stop()
        close(self.app)


def runs_elsewhere() -> None:
    """Stand for a task of the project."""


def _played(found: Findings, except_rules: Sequence[str], **facts: Any) -> Played:
    """Return what counts of *found*: late slots are a figure and no violation, because the machine may be slow."""
    not_counted = {*except_rules, "late"}
    violations = [str(violation) for violation in found.violations if violation.rule not in not_counted]
    return Played(
        expected=found.expected,
        missed=len(found.of("missed")),
        doubled=len(found.of("doubled")),
        copies=found.copies,
        late=len(found.of("late")),
        worst_late_ms=found.lateness_ms(1.0),
        violations=tuple(violations[:VIOLATIONS_KEPT]),
        **{name: tuple(value) if isinstance(value, list) else value for name, value in facts.items()},
    )


@contextmanager
def scene(
    dice: random.Random,
    *,
    grids: list[Grid] | None = None,
    config: Sequence[str] = (),
    appendonly: bool = True,
    shifted: bool = False,
    rabbit: bool = False,
    queue: str = "celery",
    tasks: bool = True,
    **options: Any,
) -> Iterator[Scene]:
    """Set a scene with a server of its own, and clear it away.

    *config* and *appendonly* are the server's; *shifted* gives it a clock that can be set. With *rabbit* the queues are a
    RabbitMQ's. *queue* is the one that is watched, and *options* are those of all entries. With *tasks* there are one-time tasks
    beside these, of which each is accounted for: not where data are lost, or another scheduler is judged.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tw-faults-", ignore_cleanup_errors=True)))
        clock = WallClock(folder, "server") if shifted else None
        with environment(clock.environment if clock else {}):
            server = stack.enter_context(EmbeddedServer.start(data_dir=folder / "data", appendonly=appendonly, config=config))
        broker = rabbit_server() if rabbit else None
        made = Scene(folder, dice, server, grids or spread(), clock, broker, queue, options={"tolerance": TOLERANCE_S, **options})
        made.tasks = OneTimeTasks(dice) if tasks else None
        stack.callback(made.end)
        try:
            yield made
        except BaseException:
            sys.stderr.write(made.processes.logs())
            raise


@cache
def rabbit_server() -> RabbitServer:
    """Return a RabbitMQ for all scenes of this process, started when it is first needed; raises `ServerUnavailable`."""
    server = RabbitServer().start()
    atexit.register(server.close)
    return server


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Let what is started in the block have these variables."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
