"""Deferring: how any process of the app stores a task with an ETA.

The ids come from blocks that a process reserves for itself, so that storing a task takes one call. A block may outlive the data that it
was reserved in (a flush, a fail-over to a replica that lagged): then an id may be another task's by now, which the script tells, and the
block is thrown away.
"""

from dataclasses import dataclass

from celery_tw.clock import Clock
from celery_tw.errors import StoreUnavailable
from celery_tw.stores.redis.codec import SCHEMA
from celery_tw.stores.redis.keys import NEWS_KEPT, Keys
from celery_tw.stores.redis.scripts import Argument, RedisClient, script, translated_errors
from celery_tw.stores.redis.templates import CUTTER
from celery_tw.stores.redis.timetable import Timetable

BLOCK = 100
TRAVEL_MS = 1000
"""How long a call may be on its way until it is carried out: more than the client waits for it."""


class EntryIds:
    """Fresh ids of one-time tasks; for one process, any of its threads."""

    def __init__(self, timetable: Timetable) -> None:
        self._timetable = timetable
        self._ids: list[int] = []

    def take(self) -> int:
        """Return an id that was never returned before; one call in a hundred asks Redis and may raise `StoreUnavailable`."""
        try:
            return self._ids.pop()
        except IndexError:
            first, *more = self._timetable.reserve(BLOCK, one_time=True)
            self._ids.extend(reversed(more))
            return first

    def discard(self) -> None:
        """Throw the rest of the block away."""
        self._ids.clear()


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferred:
    """A task to be stored; *rest* is its whole record from the line after the moment of storing."""

    entry_id: int
    mid: str
    task_id: str
    due_ms: int
    rest: bytes


class Deferring:
    """The verbs, on one shard. *grace_ms* is how long ago a leader must have been seen; None stores without one."""

    def __init__(self, client: RedisClient, keys: Keys, *, grace_ms: int | None, clock: Clock) -> None:
        self.client = client
        self.keys = keys
        self.clock = clock
        self.grace_ms = grace_ms

    def reach(self) -> None:
        """Have a connection at hand; raises `StoreUnavailable`, and then it is certain that nothing was stored."""
        with translated_errors("connect"):
            pool = self.client.connection_pool
            pool.release(pool.get_connection())

    def defer(self, task: Deferred) -> tuple[int, str]:
        """Store *task*; return Redis time in ms and put, leaderless, taken, fired or cancelled, as ``defer.lua`` says.

        A call whose answer was lost is repeated once. Raises `StoreUnavailable` when it is not known whether the task was stored,
        `StoreRefused` when it was not.
        """
        begun_ms = self.clock.boot_ms()
        try:
            return self._call(task, begun_ago="")
        except StoreUnavailable:
            return self._call(task, begun_ago=self.clock.boot_ms() - begun_ms + TRAVEL_MS)

    def _call(self, task: Deferred, *, begun_ago: Argument) -> tuple[int, str]:
        shard = self.keys
        keys: list[str | bytes] = [shard.due, shard.by_task, shard.fired, shard.news, shard.news_seq, shard.schema]
        keys += (shard.cancelled, shard.seen, shard.leader, shard.entry(task.entry_id), shard.templates, shard.template_dues)
        cut = CUTTER.cut(task.mid.encode(), task.rest)
        grace: Argument = "" if self.grace_ms is None else self.grace_ms
        args: list[Argument] = [begun_ago, task.entry_id, task.mid, task.due_ms, task.task_id, cut.rest, grace, SCHEMA, NEWS_KEPT]
        args += (cut.template.template_id, cut.template.text)
        now, status = script("defer").run(self.client, keys, args)
        return int(now), str(status, "ascii")
