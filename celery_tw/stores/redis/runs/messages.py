"""Messages of runs: where the worker's main process, or the leader, keeps the message of a run that its broker has no more.

The record of a long run has it while the run is under way; the timetable has it while the run waits, for a guard or to go on elsewhere.
"""

from typing import Any

from celery_tw.clock import RedisTime
from celery_tw.errors import StoreUnavailable
from celery_tw.stores.redis.codec import SCHEMA
from celery_tw.stores.redis.deferring import EntryIds
from celery_tw.stores.redis.keys import NEWS_KEPT, RUN_KEPT_MS, WAIT_KEPT_MS, Keys
from celery_tw.stores.redis.runs.finished import FinishedRuns, digest_of
from celery_tw.stores.redis.runs.guards import Guard
from celery_tw.stores.redis.runs.right import Right
from celery_tw.stores.redis.scripts import Argument, RedisClient, asked_twice, script
from celery_tw.stores.redis.templates import CUTTER


class RunMessages:
    """The messages of the runs of one shard; a run that may find no leader within *grace_ms* keeps its message with the broker."""

    def __init__(self, client: RedisClient, keys: Keys, *, finished: FinishedRuns, redis_time: RedisTime, grace_ms: int) -> None:
        self.client = client
        self.keys = keys
        self.finished = finished
        self.redis_time = redis_time
        self.grace_ms = grace_ms

    def accept(self, mid: str, envelope: bytes, *, once_more: bool = False) -> str:
        """Keep the message of a long run, which `resend` may have sent *once_more*; return stored, done or leaderless."""
        shard, digest = self.keys, digest_of(mid)

        def call(period: int) -> list[Any]:
            keys: list[str | bytes] = [shard.run(mid), shard.running, *self.finished.keys(period, digest), shard.leader, shard.seen]
            args: list[Argument] = [mid, digest, envelope, period, self.finished.kept_ms, self.grace_ms, "once more" if once_more else ""]
            reply: list[Any] = script("accept_run").run(self.client, keys, args)
            return reply

        return str(self.finished.ask(call)[0])

    def park(self, ids: EntryIds, *, mid: str, task_id: str, rest: bytes, delay_ms: int, guard: Guard | None = None) -> None:
        """Let a task wait in the timetable under its own mid; *rest* is its whole record from the line after the moment of storing."""
        for _ in range(2):
            entry_id = ids.take()
            if self._park(entry_id, mid=mid, task_id=task_id, rest=rest, delay_ms=delay_ms, guard=guard) == "put":
                return
            ids.discard()
        raise StoreUnavailable("park: the ids given to this process belong to other tasks")

    def _park(self, entry_id: int, *, mid: str, task_id: str, rest: bytes, delay_ms: int, guard: Guard | None) -> str:
        shard, kind, key = self.keys, guard.kind if guard else "", guard.key if guard else ""
        keys: list[str | bytes] = [shard.due, shard.by_task, shard.news, shard.news_seq, shard.schema, shard.entry(entry_id)]
        keys += (shard.guard(kind, key), shard.wait(kind, key), shard.head(kind, key), shard.templates, shard.template_dues)
        keys += (shard.run(mid), shard.running, shard.awaited)
        cut = CUTTER.cut(mid.encode(), rest)
        args: list[Argument] = [
            entry_id,
            mid,
            task_id,
            cut.rest,
            delay_ms,
            kind,
            guard.argument if guard else "",
            SCHEMA,
            NEWS_KEPT,
            WAIT_KEPT_MS,
            cut.template.template_id,
            cut.template.text,
            RUN_KEPT_MS,
        ]
        reply = asked_twice(lambda: script("park").run(self.client, keys, args))
        self.redis_time.observe(int(reply[0]))
        return str(reply[1], "ascii")

    def reassign(
        self, right: Right, verb: str, ids: EntryIds, *, mid: str, task_id: str, rest: bytes, most: int, delay_ms: int = 0
    ) -> tuple[str, int]:
        """Start a long run again elsewhere; return put, refused or enough, and how often it has been lost."""
        shard, entry_id = self.keys, ids.take()
        keys: list[str | bytes] = [shard.run(mid), shard.lease(mid), shard.running, shard.due, shard.by_task, shard.news, shard.news_seq]
        keys += (shard.leader, shard.entry(entry_id), shard.templates, shard.template_dues, shard.awaited)
        cut = CUTTER.cut(mid.encode(), rest)
        args: list[Argument] = [
            right.kind,
            right.value,
            right.token,
            right.counter,
            verb,
            most,
            mid,
            entry_id,
            task_id,
            cut.rest,
            delay_ms,
            NEWS_KEPT,
            RUN_KEPT_MS,
            cut.template.template_id,
            cut.template.text,
        ]
        now_ms, verdict, *losses = script("reassign").run(self.client, keys, args)
        self.redis_time.observe(int(now_ms))
        return verdict.decode(), int(losses[0]) if losses else 0

    def resend(self, epoch: int, seen: str, ids: EntryIds, *, mid: str, task_id: str, rest: bytes) -> str:
        """Send once more what `RunsUnderWay.awaited` has *seen* to be awaited; return put, waits, over or moved.

        The message in *rest* says that it was sent once more: what comes after the run has ended is known by that, however late.
        """
        shard, entry_id = self.keys, ids.take()
        keys: list[str | bytes] = [shard.run(mid), shard.running, shard.awaited, shard.due, shard.by_task, shard.cancelled]
        keys += (shard.news, shard.news_seq, shard.leader, shard.entry(entry_id), shard.templates, shard.template_dues)
        cut = CUTTER.cut(mid.encode(), rest)
        args: list[Argument] = [epoch, seen, mid, entry_id, task_id, cut.rest, NEWS_KEPT]
        args += (cut.template.template_id, cut.template.text, RUN_KEPT_MS)
        now_ms, verdict = script("resend").run(self.client, keys, args)
        self.redis_time.observe(int(now_ms))
        return str(verdict, "ascii")
