"""Fleet: workers that are killed at random while work comes in, one round at a time."""

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from celery import Celery, chain, chord, group, signals
from celery.result import AsyncResult

from celery_tw import TimeWheel
from celery_tw.integration.messages.identity_headers import MID
from celery_tw.testing.ledger import Ledger, Line, What
from celery_tw.testing.rabbit_server import RabbitServer
from tests.closing import close
from tests.processes.container import ProcessContainer
from tests.processes.processes import Processes
from tests.processes.yard import QUICK, SWEEPING, children_of
from tests.running import running_server
from tests.runs.verdict import Sent, Verdict, bodies_of, judge
from tests.waiting import wait_until

WORKERS = 2
PROCESSES = 2
SENDS_A_KILL = 6
PATIENCE_S = 120.0
"""How long the fleet is left alone after the last kill to bring everything to its end."""

LOOKS = 24
VERY_LONG_MS = 5000
"""No body takes so long, unless its process has been killed or hangs."""

SETTINGS = {**QUICK, "tw_max_reassignments": 1000, "result_expires": None}


class Fleet:
    """One server, one beat, some workers, and a client that knows what it has sent."""

    def __init__(self, processes: Processes, app: Celery, settings: dict[str, Any], chance: random.Random) -> None:
        self.processes = processes
        self.app = app
        self.settings = settings
        self.chance = chance
        self.killed: dict[int, int] = {}
        self.asked: set[int] = set()
        self.sent: list[Sent] = []
        self.workers: list[ProcessContainer] = []

    def start(self) -> None:
        self.processes.beat(module="fleet", conf=self.settings).ready()
        self.workers = [self._worker() for _ in range(WORKERS)]
        for worker in self.workers:
            worker.ready()

    def _worker(self) -> ProcessContainer:
        return self.processes.worker("-c", str(PROCESSES), pool="prefork", module="fleet", conf=self.settings)

    # Work

    def send(self) -> None:
        """Send one of the kinds of work there are."""
        task, number = self.app.signature, self.chance.randrange(1000)
        step = task("fleet.step", (number,))
        match kind := self.chance.choice(["chain", "chord", "alone", "flaky", "later", "count"]):
            case "chain":
                self._note(kind, chain(step, task("fleet.step"), task("fleet.step"), app=self.app).apply_async(), number + 3)
            case "chord":
                self._note(kind, chord(group([step] * 3, app=self.app), task("fleet.gather"), app=self.app).apply_async(), 3 * number + 3)
            case "alone":
                key = str(number % 2)
                self._note(kind, task("fleet.alone", (key,)).apply_async(), key)
            case "flaky" | "later":
                self._note(kind, task("fleet.flaky", (0 if kind == "flaky" else 2.5,)).apply_async(), 2)
            case "count":
                self._note(kind, task("fleet.count", (200,)).apply_async(), 200)

    def _note(self, kind: str, result: AsyncResult, expected: Any) -> None:
        self.sent.append(Sent(kind=kind, result_id=result.id, task_ids=sorted(_ids(result)), expected=expected))

    # Kills

    def kill(self) -> None:
        """Kill one process of a pool, or a worker with its pool, and let another take its place."""
        number = self.chance.randrange(len(self.workers))
        worker = self.workers[number]
        children = children_of(worker)
        if self.chance.random() < 0.5 and children:
            self._kill([self.chance.choice(children)])
            return
        self._kill([worker.pid, *children])
        worker.wait()
        self.workers[number] = self._worker()
        self.workers[number].ready()

    def _kill(self, pids: list[int]) -> None:
        for pid in pids:
            with suppress(ProcessLookupError):  # it may have gone with its parent
                os.kill(pid, signal.SIGKILL)
            self.killed.setdefault(pid, time.time_ns() // 1_000_000)  # its worker may not have noticed yet, and is killed with it once more

    # Silence

    def ask_the_silent(self) -> None:
        """Let each living process that has been at one body for very long write down, once, what its threads do."""
        since_ms = time.time_ns() // 1_000_000 - VERY_LONG_MS
        bodies = bodies_of(Ledger(self.processes.ledger).lines())
        silent = {body.pid for body in bodies if body.ended_ms is None and body.begun_ms < since_ms}
        ours = {pid for worker in self.workers for pid in children_of(worker)}
        for pid in silent & ours - self.asked - self.killed.keys():
            self.asked.add(pid)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGUSR2)

    # The end

    def results(self) -> dict[str, Any]:
        """Return the results that there are."""
        metas = ((each.result_id, self.app.backend.get_task_meta(each.result_id)) for each in self.sent)
        return {result_id: meta["result"] for result_id, meta in metas if meta["status"] in ("SUCCESS", "FAILURE", "REVOKED")}

    def come_to_rest(self) -> dict[str, Any]:
        """Wait until all that was sent has a result, or for as long as is reasonable; return the results."""
        for _ in range(LOOKS):
            with suppress(AssertionError):  # what is missing at the end is for the judge to say
                wait_until(lambda: len(self.results()) == len(self.sent), PATIENCE_S / LOOKS)
                break
            self.ask_the_silent()
        return self.results()


def play(folder: Path, *, broker: str, kills: int, seed: int) -> Verdict:
    """Play one round with so many kills in *folder*, and judge it."""
    with _fleet(folder, broker=broker, seed=seed) as fleet:
        fleet.start()
        for _ in range(kills):
            for _ in range(SENDS_A_KILL):
                fleet.send()
            time.sleep(fleet.chance.uniform(0.05, 1.0))
            fleet.kill()
            fleet.ask_the_silent()
        results = fleet.come_to_rest()
        lines = Ledger(fleet.processes.ledger).lines()
        return judge(fleet.sent, results, lines, fleet.killed, transport_may_lose=broker == "redis")


@contextmanager
def _fleet(folder: Path, *, broker: str, seed: int) -> Iterator[Fleet]:
    with ExitStack() as stack:
        server = stack.enter_context(running_server())
        processes = Processes(folder, url=server.url)
        stack.callback(processes.end)
        settings: dict[str, Any] = {**SETTINGS, "broker_transport_options": SWEEPING}
        if broker == "rabbitmq":
            rabbit = stack.enter_context(RabbitServer())
            settings |= {"broker_url": rabbit.url, "tw_redis_url": server.url, "broker_transport_options": {}}
        app = Celery("shop", broker=server.url, backend=server.url, set_as_current=False)
        app.conf.update(settings)
        TimeWheel(app)
        stack.enter_context(_noting_sends(Ledger(processes.ledger)))
        stack.callback(close, app)
        yield Fleet(processes, app, settings, random.Random(seed))


@contextmanager
def _noting_sends(ledger: Ledger) -> Iterator[None]:
    """Note what this process sends, as the pools of the fleet do."""

    def note(headers: Any = None, **_: Any) -> None:
        now_ms = time.time_ns() // 1_000_000
        ledger.append(Line(what=What.PUBLISHED, at_ms=now_ms, mid=headers[MID], task_id=headers["id"], value={"pid": os.getpid()}))

    signals.after_task_publish.connect(note)
    try:
        yield
    finally:
        signals.after_task_publish.disconnect(note)


def _ids(result: AsyncResult) -> set[str]:
    """Return the ids of all tasks that *result* stands for."""
    ids, at = set(), result
    while at is not None:
        ids |= {each.id for each in at.results} if getattr(at, "results", None) else {at.id}
        at = at.parent
    return ids
