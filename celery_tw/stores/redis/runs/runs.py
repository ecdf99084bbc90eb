"""Runs: the verbs of the processes that execute tasks, and of the leader that looks after them.

Finished runs are remembered as digests in sets, one for each period of ``done_kept_ms`` and each of 256 buckets: some sixty bytes a run,
instead of a key of its own. A run is looked for in this period and the one before, so it is remembered for one to two of them. The caller
computes the period from Redis time as it knows it; the script refuses a wrong one, and the caller, who knows better then, asks again.

A run that has not ended keeps its record for a week after the last sign of life, or, when the record holds the message of a long task,
which nobody else has any more, for as long as it takes.

A call whose answer was lost may be repeated: each script answers a repeat as it answered first, or finds that nothing is left to do.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from celery_tw.clock import RedisTime
from celery_tw.errors import MalformedRecord, StoreUnavailable
from celery_tw.stores.redis.codec import SCHEMA
from celery_tw.stores.redis.deferring import EntryIds
from celery_tw.stores.redis.envelope import read_envelope
from celery_tw.stores.redis.keys import (
    DRAIN_KEPT_MS,
    IDEMPOTENCY_KEPT_MS,
    NEWS_KEPT,
    ORDER_KEPT_MS,
    RUN_KEPT_MS,
    WAIT_KEPT_MS,
    Keys,
)
from celery_tw.stores.redis.own_connections import OwnConnections
from celery_tw.stores.redis.scripts import Argument, RedisClient, asked_twice, script, translated_errors
from celery_tw.stores.redis.templates import CUTTER

RESERVATION_MS = 10_000
PAGE = 500


@dataclass(frozen=True, slots=True)
class Guard:
    """What a run must have before it may start: *kind* is lock, sem, order, idem or unique."""

    kind: str
    key: str
    argument: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A run that wants to begin; *owner* names this very attempt, and begins with the process."""

    mid: str
    owner: str
    task: str
    task_id: str
    guards: Sequence[Guard] = ()
    long: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What ACQUIRE said: *verdict* is run, ran, done, busy, wait or leaderless.

    *guard* is the one that says wait, and *wait_ms* how long it may take. *stored* tells of a busy run that it has its message on record.
    *passed_over* are the mids of heads of an order that did not start.
    """

    verdict: str
    token: str = ""
    losses: int = 0
    result: bytes = b""
    wait_ms: int = 0
    guard: Guard | None = None
    stored: bool = False
    passed_over: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A run as it stands in Redis, for people and for the leader."""

    mid: str
    state: str
    token: str
    owner: str
    task: str
    task_id: str
    at_ms: int
    losses: int
    guards: Sequence[Guard]
    envelope: bytes | None
    cancel: str | None
    counter: str = ""

    @property
    def long(self) -> bool:
        """Whether its message is on record, so that the leader can start it again."""
        return self.envelope is not None


@dataclass(frozen=True, slots=True)
class Right:
    """By whose right a run is ended or reassigned."""

    kind: str
    value: str = ""
    token: str = ""
    counter: str = ""

    @classmethod
    def of_token(cls, token: str) -> "Right":
        """The process that runs it."""
        return cls("token", token)

    @classmethod
    def of_owner(cls, prefix: str) -> "Right":
        """The parent of the process that ran it, by the beginning of the owner's name."""
        return cls("owner", prefix)

    @classmethod
    def of_last_owner(cls, prefix: str) -> "Right":
        """The parent of the process that ran it, or was about to, as long as no other process has begun it since; only to end a run."""
        return cls("last owner", prefix)

    @classmethod
    def of_leader(cls, epoch: int, record: Record) -> "Right":
        """The leader, about a run that has not moved since it was looked at."""
        return cls("epoch", str(epoch), record.token, record.counter)

    @classmethod
    def of_any(cls) -> "Right":
        """Somebody who knows that the run can have no runner any more."""
        return cls("any")


class Runs:
    """The verbs, on one shard."""

    def __init__(self, client: RedisClient, keys: Keys, *, redis_time: RedisTime, lease_ms: int, done_kept_ms: int, grace_ms: int) -> None:
        self.client = client
        self.own = OwnConnections(client)
        self.keys = keys
        self.redis_time = redis_time
        self.lease_ms = lease_ms
        self.done_kept_ms = done_kept_ms
        self.grace_ms = grace_ms
        self._finished_before = False

    # The process that runs

    def acquire(self, claim: Claim) -> Answer:
        """Begin a run, or learn why not; raises `StoreUnavailable`."""
        shard, digest, guards = self.keys, digest_of(claim.mid), claim.guards
        head: list[Argument] = [claim.mid, digest, claim.owner, claim.task, claim.task_id, self.lease_ms]
        tail: list[Argument] = ["long" if claim.long else "", self.grace_ms, write_guards(guards), ORDER_KEPT_MS, RUN_KEPT_MS]
        for guard in guards:
            tail += (guard.kind, guard.argument)

        def call(period: int) -> list[Any]:
            keys: list[str | bytes] = [shard.run(claim.mid), shard.lease(claim.mid), shard.running, shard.token]
            keys += (self._done(period, digest), self._done(period - 1, digest), shard.leader, shard.seen, *self._guard_keys(guards))
            reply: list[Any] = script("acquire_run").run(self.own, keys, [*head, period, self.done_kept_ms, *tail])
            return reply

        verdict, *facts = self._in_period(call)
        return _ANSWERS[verdict](facts, guards)

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

    def lives(self, mid: str, *, silent_ms: int) -> bool:
        """Return whether a process has the run, or has lost it and was heard within *silent_ms*."""
        with translated_errors("lives"), self.client.pipeline(transaction=False) as pipe:
            owner, heard_ms, (seconds, _) = pipe.hget(self.keys.run(mid), "owner").zscore(self.keys.zombies, mid).time().execute()
        return bool(owner) or (heard_ms is not None and int(seconds) * 1000 - heard_ms < silent_ms)

    def lay_to_rest(self, mid: str) -> None:
        """Note that the body of a run has ended whose process had lost it."""
        with translated_errors("ZREM"):
            self.client.zrem(self.keys.zombies, mid)

    def cancelled_since(self, task_id: str, since_ms: int) -> bool:
        """Return whether a task was cancelled at or after *since_ms*, in Redis time; storing it again lets that be forgotten."""
        with translated_errors("ZSCORE"):
            cancelled_ms = self.client.zscore(self.keys.cancelled, task_id)
            return cancelled_ms is not None and cancelled_ms >= since_ms

    def finish(self, right: Right, verb: str, *, mid: str, task_id: str, guards: Sequence[Guard] = ()) -> tuple[bool, int]:
        """End a run, or set it free; return whether it was ours to end, and how often it has been lost."""
        ending = self._ending(right, verb, mid, task_id, guards)

        def call(period: int) -> list[Any]:
            reply: list[Any] = script("finish_run").run(self.own, *ending(period))
            return reply

        verdict, *facts = self._in_period(call)
        self._finished_before = True
        return verdict == "ok", int(facts[0]) if facts else 0

    def post_finish(self, right: Right, verb: str, *, mid: str, task_id: str, guards: Sequence[Guard], undone: Callable[[], None]) -> bool:
        """Send what `finish` sends and read the answer later; *undone* is called then if it was not carried out, or nobody knows.

        Return False when it is better waited for: the first time, for the server may not know the script yet.
        """
        if not self._finished_before:
            return False
        keys, args = self._ending(right, verb, mid, task_id, guards)(self.redis_time.now_ms() // self.done_kept_ms)

        def heed(reply: Any) -> None:
            if isinstance(reply, BaseException) or reply[1] == b"period":
                undone()

        script("finish_run").post(self.own, keys, args, heed=heed)
        return True

    def _ending(
        self, right: Right, verb: str, mid: str, task_id: str, guards: Sequence[Guard]
    ) -> Callable[[int], tuple[list[str | bytes], list[Argument]]]:
        """Return what makes the keys and the arguments of FINISH for a period."""
        shard, digest = self.keys, digest_of(mid)
        head: list[Argument] = [right.kind, right.value, right.token, verb, mid, digest, task_id]
        tail: list[Argument] = [self.done_kept_ms, IDEMPOTENCY_KEPT_MS, NEWS_KEPT, RESERVATION_MS, right.counter]
        tail += (guard.kind for guard in guards)

        def ending(period: int) -> tuple[list[str | bytes], list[Argument]]:
            keys: list[str | bytes] = [shard.run(mid), shard.lease(mid), shard.running, self._done(period, digest)]
            keys += (shard.due, shard.news, shard.news_seq, shard.leader, shard.checkpoint(task_id), *self._guard_keys(guards))
            return keys, [*head, period, *tail]

        return ending

    def beat(self, runs: Sequence[tuple[str, str, str, Sequence[Guard]]], *, extend: bool, processes: tuple[str, str]) -> list[str]:
        """Renew runs, each given as mid, token, task id and guards; return for each ok, drain, lost, or cancel with the reason."""
        statuses: list[str] = []
        for start in range(0, len(runs), PAGE):
            statuses += self._beat(runs[start : start + PAGE], extend=extend, processes=processes)
        return statuses

    def _beat(self, runs: Sequence[tuple[str, str, str, Sequence[Guard]]], *, extend: bool, processes: tuple[str, str]) -> list[str]:
        shard = self.keys
        keys: list[str | bytes] = [shard.running, *map(shard.drain, processes), shard.zombies]
        args: list[Argument] = [self.lease_ms, RUN_KEPT_MS, "extend" if extend else "beat"]
        for mid, token, task_id, guards in runs:
            keys += (shard.run(mid), shard.lease(mid), *(shard.guard(guard.kind, guard.key) for guard in guards))
            args += (mid, token, task_id, len(guards), *(guard.kind for guard in guards))
        now_ms, *statuses = script("beat").run(self.client, keys, args)
        self.redis_time.observe(int(now_ms))
        return [status.decode() for status in statuses]

    def flags(self, runs: Sequence[tuple[str, str]], *, processes: tuple[str, str]) -> list[str]:
        """Return what is to be told to runs, each given as mid and token, as `beat` does; renews nothing."""
        with translated_errors("flags"), self.client.pipeline(transaction=False) as pipe:
            pipe.exists(*map(self.keys.drain, processes))
            for mid, _ in runs:
                pipe.hmget(self.keys.run(mid), "token", "cancel")
            draining, *found = pipe.execute()
        return [
            "lost" if held != token.encode() else f"cancel {cancel.decode()}" if cancel is not None else "drain" if draining else "ok"
            for (_, token), (held, cancel) in zip(runs, found, strict=True)
        ]

    def save_checkpoint(self, mid: str, token: str, *, task_id: str, state: bytes, kept_ms: int, processes: tuple[str, str]) -> str:
        """Keep the state of a run, renew it, and return what `beat` does."""
        shard = self.keys
        keys: list[str | bytes] = [shard.run(mid), shard.lease(mid), shard.running, shard.checkpoint(task_id), *map(shard.drain, processes)]
        reply: bytes = script("save_checkpoint").run(self.client, keys, [token, mid, state, kept_ms, self.lease_ms])
        return reply.decode()

    def load_checkpoint(self, task_id: str) -> bytes | None:
        """Return the last state that was saved for a task, or None."""
        with translated_errors("GET"):
            state: bytes | None = self.client.get(self.keys.checkpoint(task_id))
            return state

    def clear_checkpoint(self, mid: str, token: str, *, task_id: str) -> bool:
        """Forget the state of a task; return False when the run is another's by now."""
        reply: bytes = script("clear_checkpoint").run(self.client, [self.keys.run(mid), self.keys.checkpoint(task_id)], [token])
        return reply == b"ok"

    # The process that sends

    def draw_number(self, key: str, mid: str, *, before: str = "") -> None:
        """Give the send *mid* its place in the order *key*: that of the run *before*, or the last."""
        script("draw_number").run(self.client, [self.keys.guard("order", key)], [mid, before, ORDER_KEPT_MS])

    def claim_unique(self, key: str, task_id: str, *, kept_ms: int) -> str:
        """Take *key* for a task, unless another has it; return the id of the task that has it now."""
        reply: bytes = script("claim_unique").run(self.client, [self.keys.guard("unique", key)], [task_id, kept_ms, "claim"])
        return reply.decode()

    def give_back_unique(self, key: str, task_id: str) -> None:
        """Give *key* back if the task still has it."""
        script("claim_unique").run(self.client, [self.keys.guard("unique", key)], [task_id, 0, "give back"])

    # The parent of the process that runs

    def accept(self, mid: str, envelope: bytes) -> str:
        """Keep the message of a long run; return stored, done or leaderless."""
        shard, digest = self.keys, digest_of(mid)

        def call(period: int) -> list[Any]:
            keys: list[str | bytes] = [shard.run(mid), shard.running, self._done(period, digest), self._done(period - 1, digest)]
            keys += (shard.leader, shard.seen)
            reply: list[Any] = script("accept_run").run(
                self.client, keys, [mid, digest, envelope, period, self.done_kept_ms, self.grace_ms]
            )
            return reply

        return str(self._in_period(call)[0])

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
        keys += (shard.run(mid), shard.running)
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
        keys: list[str | bytes] = [shard.run(mid), shard.lease(mid), shard.running, shard.due, shard.by_task]
        keys += (shard.news, shard.news_seq, shard.leader, shard.entry(entry_id), shard.templates, shard.template_dues)
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

    def drain(self, process: str) -> None:
        """Tell the runs of a worker that it shuts down; raises `StoreUnavailable`."""
        with translated_errors("SET"):
            self.client.set(self.keys.drain(process), "1", px=DRAIN_KEPT_MS)

    # Who looks

    def counters(self) -> dict[str, str]:
        """Return the counter of each run that is under way, by mid."""
        with translated_errors("HGETALL"):
            return {mid.decode(): counter.decode() for mid, counter in self.client.hgetall(self.keys.running).items()}

    def forget(self, mid: str) -> None:
        """Strike a run that left no record out of those under way."""
        with translated_errors("HDEL"):
            self.client.hdel(self.keys.running, mid)

    def read(self, mids: Iterable[str]) -> list[Record]:
        """Return the records of *mids*, without those that are gone."""
        mids = list(mids)
        with translated_errors("HGETALL"), self.client.pipeline(transaction=False) as pipe:
            for mid in mids:
                pipe.hgetall(self.keys.run(mid))
                pipe.hget(self.keys.running, mid)
            replies = pipe.execute() if mids else []
        pairs = zip(mids, replies[::2], replies[1::2], strict=True)
        return [_record(mid, found, counter) for mid, found, counter in pairs if found]

    def ask_to_cancel(self, task_id: str, reason: str) -> list[str]:
        """Ask the runs of a task that are under way to stop; return their mids."""
        asked = []
        mids = list(self.counters())
        for start in range(0, len(mids), PAGE):
            page = mids[start : start + PAGE]
            with translated_errors("HGET"), self.client.pipeline(transaction=False) as pipe:
                for mid in page:
                    pipe.hget(self.keys.run(mid), "id")
                found = pipe.execute()
            for mid in (mid for mid, held in zip(page, found, strict=True) if held == task_id.encode()):
                if script("cancel_run").run(self.client, [self.keys.run(mid)], [task_id, reason]) == b"asked":
                    asked.append(mid)
        return asked

    # Keys

    def _done(self, period: int, digest: bytes) -> str:
        return self.keys.done(period, f"{digest[0]:02x}")

    def _guard_keys(self, guards: Sequence[Guard]) -> list[str]:
        shard = self.keys
        return [
            name
            for guard in guards
            for name in (shard.guard(guard.kind, guard.key), shard.wait(guard.kind, guard.key), shard.head(guard.kind, guard.key))
        ]

    def _in_period(self, call: Callable[[int], list[Any]]) -> list[Any]:
        """Return what *call* answers for the present period, without the time, with the verdict as text."""
        for _ in range(3):
            now_ms, verdict, *facts = call(self.redis_time.now_ms() // self.done_kept_ms)
            self.redis_time.observe(int(now_ms))
            if verdict != b"period":
                return [verdict.decode(), *facts]
        raise StoreUnavailable("the clock of Redis does not stand still long enough to be read")


def digest_of(mid: str) -> bytes:
    """Return what is remembered of a mid."""
    return blake2b(mid.encode(), digest_size=12).digest()


def write_guards(guards: Sequence[Guard]) -> str:
    """Return *guards* as a run's record keeps them."""
    return "\n".join(f"{guard.kind}\t{guard.argument}\t{guard.key}" for guard in guards)


def read_guards(text: str) -> list[Guard]:
    """Return the guards in a record."""
    parts = (line.split("\t", 2) for line in text.split("\n") if line)
    return [Guard(kind, key, argument) for kind, argument, key in parts]


def _record(mid: str, found: dict[bytes, bytes], counter: bytes | None) -> Record:
    def text(name: str) -> str:
        return found.get(name.encode(), b"").decode(errors="replace")

    envelope = found.get(b"envelope")
    task, task_id = text("task"), text("id")
    if envelope is not None and not task_id:
        task, task_id = _named_in(envelope)
    return Record(
        mid=mid,
        state=text("state"),
        token=text("token"),
        owner=text("owner"),
        task=task,
        task_id=task_id,
        at_ms=int(text("at") or 0),
        losses=int(text("lost") or 0),
        guards=read_guards(text("guards")),
        envelope=envelope,
        cancel=text("cancel") if b"cancel" in found else None,
        counter=counter.decode() if counter else "",
    )


def _named_in(envelope: bytes) -> tuple[str, str]:
    """Return the task and the task id in a message, for a run that no process has begun yet."""
    try:
        read = read_envelope(envelope)
    except MalformedRecord:
        return "", ""
    return str(read.headers.get("task") or ""), read.task_id


_ANSWERS: dict[str, Callable[[list[Any], Sequence[Guard]], Answer]] = {
    "run": lambda facts, _: Answer(
        verdict="run",
        token=facts[0].decode(),
        losses=int(facts[1]),
        passed_over=tuple(facts[2].decode().split()) if len(facts) > 2 else (),
    ),
    "ran": lambda facts, _: Answer(verdict="ran", token=facts[0].decode(), result=facts[1] or b""),
    "done": lambda _, __: Answer(verdict="done"),
    "busy": lambda facts, _: Answer(verdict="busy", wait_ms=int(facts[0]), stored=bool(facts[1])),
    "wait": lambda facts, guards: Answer(
        verdict="wait", guard=guards[int(facts[0])], wait_ms=int(facts[1]), passed_over=tuple(facts[2].decode().split())
    ),
    "leaderless": lambda _, __: Answer(verdict="leaderless"),
}
