"""Runs: how the process that executes a run begins it, puts it on record, and ends it.

::

    acquire ─▶ ran ─▶ finish
       └─────▶ conclude, which stores the result as well

What else is to be known or done about runs is in the parts: `signs`, `checkpoints`, `messages`, `sends`, `under_way`.

A run that has not ended keeps its record for a week after the last sign of life, or, when the record holds the message of a long task,
which nobody else has any more, for as long as it takes.

A call whose answer was lost may be repeated: each script answers a repeat as it answered first, or finds that nothing is left to do.
"""

from collections.abc import Sequence
from typing import Any

from celery_tw.clock import RedisTime
from celery_tw.stores.redis.keys import IDEMPOTENCY_KEPT_MS, NEWS_KEPT, ORDER_KEPT_MS, RUN_KEPT_MS, Keys
from celery_tw.stores.redis.own_connections import OwnConnections
from celery_tw.stores.redis.runs.checkpoints import Checkpoints
from celery_tw.stores.redis.runs.claim import Answer, Claim, read_answer
from celery_tw.stores.redis.runs.finished import FinishedRuns, digest_of
from celery_tw.stores.redis.runs.guards import Guard, guard_keys, write_guards
from celery_tw.stores.redis.runs.messages import RunMessages
from celery_tw.stores.redis.runs.right import Right
from celery_tw.stores.redis.runs.sends import Sends
from celery_tw.stores.redis.runs.signs_of_life import SignsOfLife
from celery_tw.stores.redis.runs.stored_result import StoredResult
from celery_tw.stores.redis.runs.under_way import RunsUnderWay
from celery_tw.stores.redis.scripts import Argument, RedisClient, script, translated_errors

RESERVATION_MS = 10_000

Call = tuple[list[str | bytes], list[Argument]]
"""The keys and the arguments of a script call."""


class Runs:
    """The runs of one shard."""

    def __init__(self, client: RedisClient, keys: Keys, *, redis_time: RedisTime, lease_ms: int, done_kept_ms: int, grace_ms: int) -> None:
        self.client = client
        self.own = OwnConnections(client)
        self.keys = keys
        self.redis_time = redis_time
        self.lease_ms = lease_ms
        self.grace_ms = grace_ms
        self.finished = FinishedRuns(keys, redis_time, kept_ms=done_kept_ms)
        self.signs = SignsOfLife(client, keys, redis_time=redis_time, lease_ms=lease_ms)
        self.checkpoints = Checkpoints(client, keys, lease_ms=lease_ms)
        self.messages = RunMessages(client, keys, finished=self.finished, redis_time=redis_time, grace_ms=grace_ms)
        self.sends = Sends(client, keys)
        self.under_way = RunsUnderWay(client, keys)
        # Made once, because each run asks with them.
        self._beginnings = keys.running, keys.token
        self._leadership = keys.leader, keys.seen
        self._wakings = keys.due, keys.news, keys.news_seq

    def acquire(self, claim: Claim) -> Answer:
        """Begin a run, or learn why not; raises `StoreUnavailable`."""
        mid, guards = claim.mid, claim.guards
        digest = digest_of(mid)

        def call(period: int) -> list[Any]:
            keys: list[str | bytes] = [self.keys.run(mid), self.keys.lease(mid), *self._beginnings, *self.finished.keys(period, digest)]
            keys += self._leadership
            args: list[Argument] = [mid, digest, claim.owner, claim.task, claim.task_id, self.lease_ms, period, self.finished.kept_ms]
            kind = "once more" if claim.once_more else "long" if claim.long else ""
            args += (kind, self.grace_ms, write_guards(guards), ORDER_KEPT_MS, RUN_KEPT_MS)
            if guards:
                keys += guard_keys(self.keys, guards)
                args += (fact for guard in guards for fact in (guard.kind, guard.argument))
            reply: list[Any] = script("acquire_run").run(self.own, keys, args)
            return reply

        verdict, *facts = self.finished.ask(call)
        return read_answer(verdict, facts, guards)

    def ran(self, mid: str, token: str, result: bytes) -> bool:
        """Record that the body has returned; return False when the run is another's by now."""
        reply: bytes = script("ran").run(self.own, [self.keys.run(mid)], [token, result])
        return reply == b"ok"

    def holds(self, mid: str, token: str) -> bool:
        """Return whether the run is still that of *token*."""
        with translated_errors("HGET"):
            return bool(self.client.hget(self.keys.run(mid), "token") == token.encode())

    def is_on_record(self, mid: str) -> bool:
        """Return whether a run has begun and not ended."""
        with translated_errors("EXISTS"):
            return bool(self.client.exists(self.keys.run(mid)))

    def has_ended(self, mid: str) -> bool:
        """Return whether a run has ended for good."""
        digest = digest_of(mid)
        with translated_errors("SISMEMBER"), self.client.pipeline(transaction=False) as pipe:
            for key in self.finished.keys(self.finished.period(), digest):
                pipe.sismember(key, digest)
            return any(pipe.execute())

    def keeps(self, result: StoredResult) -> bool:
        """Return whether this very *result* is stored; its text tells the microsecond in which it was made."""
        with translated_errors("GET"):
            return bool(self.client.get(result.key) == result.text.encode())

    def cancelled_since(self, task_id: str, since_ms: int) -> bool:
        """Return whether a task was cancelled at or after *since_ms*, in Redis time; storing it again lets that be forgotten."""
        with translated_errors("ZSCORE"):
            cancelled_ms = self.client.zscore(self.keys.cancelled, task_id)
            return cancelled_ms is not None and cancelled_ms >= since_ms

    def finish(self, right: Right, verb: str, *, mid: str, task_id: str, guards: Sequence[Guard] = ()) -> tuple[bool, int]:
        """End a run, or set it free; return whether it was ours to end, and how often it has been lost."""

        def call(period: int) -> list[Any]:
            keys, args = self._ending(right, verb, mid, task_id, guards, period=period)
            reply: list[Any] = script("finish_run").run(self.own, keys, args)
            return reply

        verdict, *facts = self.finished.ask(call)
        return verdict == "ok", int(facts[0]) if facts else 0

    def conclude(self, token: str, result: StoredResult, *, mid: str, task_id: str, guards: Sequence[Guard] = ()) -> bool:
        """Store *result* and end the run that has come to it; return False, and do nothing, when it is another's by now, or has ended."""
        digest = digest_of(mid)

        def call(period: int) -> list[Any]:
            keys = self._ending_keys(mid, digest, period=period)
            keys += (self.keys.checkpoint(task_id), result.key)
            args: list[Argument] = [token, mid, digest, task_id, period, self.finished.kept_ms, NEWS_KEPT, RESERVATION_MS]
            args += (result.text, result.kept_s)
            if guards:
                keys += guard_keys(self.keys, guards)
                args += (guard.kind for guard in guards)
            reply: list[Any] = script("conclude_run").run(self.own, keys, args)
            return reply

        verdict, *_ = self.finished.ask(call)
        return bool(verdict == "ok")

    def _ending(self, right: Right, verb: str, mid: str, task_id: str, guards: Sequence[Guard], *, period: int) -> Call:
        """Return the keys and the arguments of FINISH."""
        digest = digest_of(mid)
        keys = self._ending_keys(mid, digest, period=period)
        keys += (self.keys.leader, self.keys.checkpoint(task_id))
        args: list[Argument] = [right.kind, right.value, right.token, verb, mid, digest, task_id, period, self.finished.kept_ms]
        args += (IDEMPOTENCY_KEPT_MS, NEWS_KEPT, RESERVATION_MS, right.counter)
        if guards:
            keys += guard_keys(self.keys, guards)
            args += (guard.kind for guard in guards)
        return keys, args

    def _ending_keys(self, mid: str, digest: bytes, *, period: int) -> list[str | bytes]:
        """Return the keys with which those of every end begin: the run's own, where it is remembered, and what wakes who waits."""
        return [self.keys.run(mid), self.keys.lease(mid), self.keys.running, self.finished.key(period, digest), *self._wakings]
