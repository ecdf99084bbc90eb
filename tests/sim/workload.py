"""Workload: what people and programs ask of the timetable, as plain values, and the client that carries it out.

The client is our own: `Book`, `Storing`, `Deferring` and `Cancelling` with their repetitions, on a connection that faults strike too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import redis
from celery import Celery

from celery_tw.core.identity import FireIds
from celery_tw.core.misfire import Misfire
from celery_tw.errors import CeleryTWError
from celery_tw.integration.entries.book import Book
from celery_tw.integration.entries.drafting import Drafter
from celery_tw.integration.entries.reading import Reading
from celery_tw.integration.entries.storing import Storing
from celery_tw.integration.moments import from_ms
from celery_tw.integration.schedules.written import every, once
from celery_tw.settings import Settings
from celery_tw.stores.redis.cancelling import Cancelling
from celery_tw.stores.redis.codec import OneTime
from celery_tw.stores.redis.deferring import Deferred, Deferring, EntryIds
from celery_tw.stores.redis.lanes import Entering, Lanes
from celery_tw.stores.redis.scripts import translated_errors
from celery_tw.stores.redis.timetable import Timetable
from tests.sim.messages import FAIR, QUEUE, TASK, enveloped, marked
from tests.sim.scheduler import FINGERPRINT, HostClock, PlainWorkshop
from tests.sim.server import KEYS, Server
from tests.sim.timeline import Host, Timeline
from tests.sim.wire import Caller

APP = Celery("sim", broker="memory://", set_as_current=False)
SETTINGS = Settings(namespace="sim")


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """Something *client* begins at *at_ms*, or when it has done what came before."""

    at_ms: int
    client: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Put(Operation):
    """Store a recurring entry, or change it."""

    period_ms: int
    revision: int
    misfire: str = "latest"
    limit: int = 0
    tolerance_ms: int = 5000
    jitter_ms: int = 0
    max_runs: int | None = None
    lane: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause(Operation):
    """Pause an entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume(Operation):
    """Let an entry go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove(Operation):
    """Remove an entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PutOnce(Operation):
    """Store a named one-time task, due *in_ms* after the operation begins."""

    in_ms: int
    revision: int
    misfire: str = "latest"
    tolerance_ms: int = 5000
    lane: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hurry(Operation):
    """Let a named one-time task be due now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backfill(Operation):
    """Fire the slots of the last *back_ms* again."""

    back_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Defer(Operation):
    """Store a task under a task id, due *in_ms* after the operation begins."""

    in_ms: int
    lane: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel(Operation):
    """Take what waits under a task id off the timetable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Send(Operation):
    """Send a task to the fair queue under a task id: straight on, or to its *lane*."""

    lane: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Boost(Operation):
    """Let what waits in a lane under a task id wait in the lane *to*."""

    to: str


@dataclass(frozen=True, slots=True)
class Done:
    """An operation with what it answered, and when it began and ended; *error* when it failed."""

    operation: Operation
    began_us: int
    ended_us: int
    answer: Any = None
    error: str = ""


@dataclass(slots=True)
class Client:
    """A process that carries out its operations one after the other."""

    name: str
    timeline: Timeline
    server: Server
    operations: Sequence[Operation]
    lease_ms: int = 3000
    done: list[Done] = field(default_factory=list)
    host: Host = field(init=False)
    caller: Caller = field(init=False)
    _next: int = 0

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Begin, or go on in a new process with the operation after the last one begun."""
        self.host = Host(self.name)
        self.caller = Caller(self.host, self.timeline, self.server)
        client = self.connection = self.caller.client()
        self.timetable = Timetable(client, KEYS)
        self.book = self._book()
        self.fair_book = self._book(FAIR.decode())
        self.lanes = Lanes(client, KEYS, lease_ms=self.lease_ms, clock=HostClock(self.timeline))
        self.cancelling = Cancelling(client, KEYS)
        self.deferring = Deferring(client, KEYS, grace_ms=None, clock=HostClock(self.timeline))
        self.ids = EntryIds(self.timetable)
        self.timeline.spawn(self.name, self.host, self._work)

    def _book(self, *fair: str) -> Book:
        """Return the book of an app whose messages are all for a *fair* queue, or none."""
        fire_ids = FireIds("sim")
        storing = Storing(APP, self.timetable, PlainRenderer(), fire_ids=fire_ids, broker_fingerprint=FINGERPRINT, fair=frozenset(fair))
        reading = Reading(APP, self.timetable, fire_ids=fire_ids, statics={})
        return Book(APP, self.timetable, drafter=Drafter(APP, SETTINGS), storing=storing, reading=reading)

    connection: redis.Redis = field(init=False)
    timetable: Timetable = field(init=False)
    book: Book = field(init=False)
    fair_book: Book = field(init=False)
    lanes: Lanes = field(init=False)
    cancelling: Cancelling = field(init=False)
    deferring: Deferring = field(init=False)
    ids: EntryIds = field(init=False)

    def _work(self) -> None:
        while self._next < len(self.operations):
            operation = self.operations[self._next]
            self.timeline.sleep(operation.at_ms * 1000 - self.timeline.now_us)
            self._next += 1
            began_us = self.timeline.now_us
            try:
                answer, error = self._carry_out(operation), ""
            except CeleryTWError as failure:
                answer, error = None, f"{type(failure).__name__}: {failure}"
            self.done.append(Done(operation, began_us, self.timeline.now_us, answer, error))

    def _carry_out(self, operation: Operation) -> Any:
        name = operation.name
        match operation:
            case Put():
                return self._book_of(operation).schedule(
                    name, _signature(operation), every(operation.period_ms / 1000), **_options(operation)
                )
            case Pause():
                return self.book.pause(name)
            case Resume():
                return self.book.resume(name)
            case Remove():
                return self.book.remove(name)
            case PutOnce():
                at = once(from_ms(self.timetable.now_ms() + operation.in_ms))
                options = {"misfire": operation.misfire, "tolerance": operation.tolerance_ms / 1000}
                return self._book_of(operation).schedule(name, _signature(operation), at, **options)
            case Hurry():
                return self.book.trigger(name)
            case Backfill():
                now_ms = self.timetable.now_ms()
                return self.book.backfill(name, from_ms(now_ms - operation.back_ms), from_ms(now_ms), rate=20)
            case Defer():
                return self._defer(name, operation.in_ms, operation.lane)
            case Cancel():
                return self.cancelling.cancel([name])
            case Send():
                return self._send(name, operation.lane)
            case Boost():
                queue = FAIR.decode()
                return self.lanes.boost(queue, [each.entry_id for each in self.lanes.under_task(queue, name)], to=operation.to)

    def _book_of(self, operation: Put | PutOnce) -> Book:
        return self.fair_book if operation.lane else self.book

    def _defer(self, task_id: str, in_ms: int, lane: str) -> str:
        now_ms, entry_id = self.timetable.now_ms(), self.ids.take()
        mid, due_ms = f"mid-{entry_id}", now_ms + in_ms
        rest = _record(f"{task_id} {due_ms} {mid} 0", task_id=task_id, mid=mid, lane=lane, now_ms=now_ms)
        return self.deferring.defer(Deferred(entry_id=entry_id, mid=mid, task_id=task_id, due_ms=due_ms, rest=rest))[1]

    def _send(self, task_id: str, lane: str) -> str:
        """Ask at the entrance, and publish what goes straight on; what may have been stored is not sent again."""
        entry_id = self.ids.take()
        mid = f"mid-{entry_id}"
        text = f"{task_id} 0 {mid} 0"
        rest = _record(text, task_id=task_id, mid=mid, lane=lane, now_ms=0)
        _, status = self.lanes.enter(Entering(entry_id=entry_id, mid=mid, task_id=task_id, queue=FAIR.decode(), lane=lane, rest=rest))
        if status in ("straight", "leaderless"):
            with translated_errors("LPUSH"):
                self.connection.lpush(FAIR, enveloped(text, task_id=task_id, mid=mid, lane=lane, number=None))
        return status


class PlainRenderer:
    """Renders for `Storing` what `PlainWorkshop` renders for the engine."""

    def prepare(self, definition: Any) -> Any:
        return PlainWorkshop().prepare(definition).rendering


def _record(text: str, *, task_id: str, mid: str, lane: str, now_ms: int) -> bytes:
    """Return what is stored of a task from the line after the moment of storing."""
    record = OneTime(
        mid=mid,
        name="",
        stored_ms=now_ms,
        last_ms=None,
        fingerprint=FINGERPRINT,
        queue_key=(FAIR if lane else QUEUE).decode(),
        extra={"task": TASK, "queue": FAIR.decode(), "lane": lane} if lane else {},
        message=enveloped(text, task_id=task_id, mid=mid, lane=lane) if lane else marked(text),
        task_id=task_id,
    )
    return record.pack_rest()


def _signature(operation: Put | PutOnce) -> Any:
    return APP.signature(TASK, kwargs={"revision": operation.revision} | ({"lane": operation.lane} if operation.lane else {}))


def _options(put: Put) -> dict[str, Any]:
    misfire = Misfire.catch_up(rate=50, limit=put.limit) if put.misfire == "catch_up" else Misfire(put.misfire)  # type: ignore[arg-type]
    return {
        "misfire": misfire,
        "tolerance": put.tolerance_ms / 1000,
        "jitter": put.jitter_ms / 1000,
        "max_runs": put.max_runs,
    }
