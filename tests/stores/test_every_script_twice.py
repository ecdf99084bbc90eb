"""Every script is safe to run twice: the answer to a call that was carried out is lost, and the call is made again as the product makes it.

What stands in Redis afterwards has to be what one undisturbed call leaves, and so has the answer. Where a second call is answered
otherwise, the row says how, and what the caller makes of it; where it leaves more than the first did, the row names those keys and says
why that does no harm. A script without a row fails the first test.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytest
import redis

from celery_tw.clock import RedisTime, SystemClock
from celery_tw.core.command import Command
from celery_tw.core.death import Death
from celery_tw.core.misfire import SkippedRange
from celery_tw.core.shares import Choice, Segment
from celery_tw.embedded import EmbeddedServer
from celery_tw.errors import StoreUnavailable
from celery_tw.runtime.lock import lock
from celery_tw.stores.redis.acl import script_names
from celery_tw.stores.redis.admitting import Admitting
from celery_tw.stores.redis.cancelling import Cancelling
from celery_tw.stores.redis.claims import Claims, Settlement
from celery_tw.stores.redis.codec import unpack_one_time
from celery_tw.stores.redis.dead_letters import DeadLetters, Requeued
from celery_tw.stores.redis.deferring import Deferred, Deferring, EntryIds
from celery_tw.stores.redis.dispatching import Dispatching, SlotWrite
from celery_tw.stores.redis.ejecting import Ejecting
from celery_tw.stores.redis.election import Election, Led
from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.redis.lanes import Entering, Lanes
from celery_tw.stores.redis.open_fires import OpenFires, waiting_member
from celery_tw.stores.redis.refused_messages import RefusedMessages
from celery_tw.stores.redis.retry_budgets import RetryBudgets
from celery_tw.stores.redis.runs.claim import Claim
from celery_tw.stores.redis.runs.guards import Guard
from celery_tw.stores.redis.runs.right import Right
from celery_tw.stores.redis.runs.runs import Runs
from celery_tw.stores.redis.runs.stored_result import StoredResult
from celery_tw.stores.redis.scripts import script
from celery_tw.stores.redis.terminations import Terminations
from celery_tw.stores.redis.timetable import Timetable
from tests.cutting import CuttingProxy
from tests.stores.test_timetable import one_time, recurring
from tests.stores.waiting_tasks import waiting_task

KEYS = Keys("shop")
SAME = object()
LATER_MS = 2**45
PROCESSES = ("host:1", "host:0")
BURIED = {"reason": "full", "entry": 2, "name": "tick", "slot_ms": 5}
SKIPPED = SkippedRange(from_ms=1000, to_ms=1500, count=1, reason="misfire:skip")


class Shard:
    """The stores of one process, on one client."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.timetable = Timetable(client, KEYS)
        self.election = Election(client, KEYS)
        self.dispatching = Dispatching(client, KEYS, lease_ms=60_000, history_size=3)
        self.claims = Claims(client, KEYS, lease_ms=60_000)
        self.cancelling = Cancelling(client, KEYS)
        self.ejecting = Ejecting(client, KEYS)
        self.deferring = Deferring(client, KEYS, grace_ms=None, clock=SystemClock())
        self.letters = DeadLetters(client, KEYS)
        time = RedisTime(SystemClock())
        self.open_fires = OpenFires(client, KEYS)
        self.lanes = Lanes(client, KEYS, lease_ms=60_000, clock=SystemClock())
        self.admitting = Admitting(client, KEYS, self.lanes, lease_ms=60_000)
        self.terminations = Terminations(client, KEYS)
        self.budgets = RetryBudgets(client, KEYS)
        self.runs = Runs(client, KEYS, redis_time=time, lease_ms=60_000, done_kept_ms=3_600_000, grace_ms=60_000)

    @cached_property
    def ids(self) -> EntryIds:
        return EntryIds(self.timetable)

    @property
    def epoch(self) -> int:
        return int(self.election.leader()[0]["epoch"])

    @property
    def token(self) -> str:
        return (self.client.hget(KEYS.run("m"), "token") or b"").decode()

    def lead(self) -> None:
        assert isinstance(self.election.acquire("me", lease_ms=60_000), Led)

    def acquire(self) -> Any:
        """Begin the run *m*, which takes a lock."""
        return self.runs.acquire(Claim(mid="m", owner="host:1:a", task="shop.tick", task_id="t", guards=[lock("k")], long=False))

    def accept(self) -> str:
        return self.runs.messages.accept("m", b"{}")

    def conclude(self) -> bool:
        return self.runs.conclude(self.token, StoredResult(b"result", "4", 60), mid="m", task_id="t", guards=[lock("k")])

    def finish(self, verb: str, right: Right) -> Any:
        return self.runs.finish(right, verb, mid="m", task_id="t", guards=[lock("k")])

    def defer(self) -> Any:
        rest = waiting_task("m1", task_id="t1").pack_rest()
        return self.deferring.defer(Deferred(entry_id=3, mid="m1", task_id="t1", due_ms=LATER_MS, rest=rest))

    def enter(self) -> Any:
        rest = waiting_task("m1", task_id="t1").pack_rest()
        return self.lanes.enter(Entering(entry_id=3, mid="m1", task_id="t1", queue="celery", lane="low", rest=rest))

    def admit(self) -> Any:
        (waits,) = self.lanes.page("celery", "low") or (self.waits,)
        self.waits = waits
        choice = Choice(segment=Segment("low", "low"), turn="low", since_ms=waits.since_ms, entry_id=3)
        return self.dispatching.admit(self.epoch, [choice], queue="celery", fingerprint="f", queue_keys=[b"celery"]).statuses()

    def eject(self) -> str:
        ((task,),) = list(self.ejecting.pages()) or ((self.before,),)
        self.before = task
        push = Command("lpush", b"celery", b"message")
        return self.ejecting.eject(3, unpack_one_time(task.record), due_ms=LATER_MS, push=push)

    def park(self) -> None:
        guard = Guard("lock", "k")
        rest = waiting_task("m2", task_id="t2").pack_rest()
        self.runs.messages.park(self.ids, mid="m2", task_id="t2", rest=rest, delay_ms=3_600_000, guard=guard)

    def reassign(self) -> Any:
        rest = waiting_task("m", task_id="t").pack_rest()
        return self.runs.messages.reassign(Right.of_owner("host:1:"), "lost", self.ids, mid="m", task_id="t", rest=rest, most=3)

    def wait_in_vain(self) -> None:
        """Let the run *m* have been sent again, and its message be lost."""
        Shard(self.client).reassign()
        self.cancelling.cancel(["t"])
        self.client.delete(KEYS.cancelled)

    @cached_property
    def seen(self) -> str:
        return self.runs.under_way.awaited()["m"]

    def resend(self) -> str:
        rest = waiting_task("m", task_id="t").pack_rest()
        return self.runs.messages.resend(self.epoch, self.seen, self.ids, mid="m", task_id="t", rest=rest)

    def beat(self) -> list[str]:
        return self.runs.signs.beat([("m", self.token, "t", [lock("k")])], extend=True, processes=PROCESSES)

    def save(self) -> str:
        return self.runs.checkpoints.save("m", self.token, task_id="t", state=b"{}", kept_ms=60_000, processes=PROCESSES)

    def rerender(self) -> bool:
        record = self.client.get(KEYS.entry(3)) or b""
        self.read = getattr(self, "read", record)
        return self.dispatching.rerender(self.epoch, 3, old=self.read, new=waiting_task("m1", message=b"another").pack())

    def fire(self) -> Any:
        write = SlotWrite(
            entry_id=2, due_ms=2000, version=1, slot_ms=2000, next_due_ms=3000, commands=[Command("lpush", b"celery", b"message")]
        )
        return self.dispatching.fire(self.epoch, [write]).statuses()

    def fire_once(self) -> Any:
        return self.dispatching.fire_once(self.epoch, [(2000, 3)], fingerprint="f", queue_keys=[b"celery"]).statuses()

    def open_backlog(self) -> int:
        return self.timetable.writing.open_backlog(2, number=7, from_ms=100, to_ms=300, first_ms=100, left=3, rate=None)

    def drain(self) -> str:
        self.backlog = getattr(self, "backlog", None) or self.dispatching.read_backlog("2:7")
        assert self.backlog is not None
        push = Command("lpush", b"celery", b"message")
        return self.dispatching.drain(self.epoch, self.backlog, slots_ms=[100], commands=[push], next_ms=200, left=2, again_ms=5)

    def queue_fire(self) -> None:
        """Let a task of the entry be queued, and its next slot wait for the end of that one."""
        self.open_fires.queue("tick", "t", kept_ms=60_000)
        self.client.zadd(KEYS.backlogs, {waiting_member(2): LATER_MS})

    def claim_messages(self) -> None:
        for number in range(1, 6):
            fields = {"entry": "2", "delivery": "at_least_once", "message": str(number)}
            self.client.xadd(KEYS.outbox, fields, id=f"{number}-1")  # type: ignore[arg-type]

    def bury(self) -> None:
        self.claims.settle(self.epoch, [Settlement(claim_id=f"{number}-1", verb="buried", record=BURIED) for number in (1, 2)])

    def bury_letter(self) -> tuple[str, int]:
        return self.letters.bury("m", b"message", Death(reason="failed", mid="m", token=self.token))

    def requeue_letter(self) -> list[bool]:
        rest = waiting_task("m1", task_id="t1").pack_rest()
        return self.letters.requeue([Requeued(letter_id="m", mid="m1", task_id="t1", rest=rest)])

    def unbury(self) -> tuple[int, int]:
        buried = RefusedMessages(self.client, KEYS)
        self.found = getattr(self, "found", None) or buried.read(["1-1", "2-1"])
        return len(buried.requeue(self.found[:1])), len(buried.discard(self.found[1:]))

    def settle(self) -> None:
        verbs: list[Settlement] = [
            Settlement(claim_id="1-1", verb="done"),
            Settlement(claim_id="2-1", verb="refused", record={"count": 1, "reason": "full"}),
            Settlement(claim_id="3-1", verb="let go", record={"entry": 2}),
            Settlement(claim_id="4-1", verb="buried", record={"reason": "full"}),
            Settlement(claim_id="5-1", verb="skipped", entry_id=2, entry_name="tick", skipped=SKIPPED),
        ]
        self.claims.settle(self.epoch, verbs)


@dataclass(frozen=True, kw_only=True)
class Row:
    """How one script is called: *begin* makes what it finds, and *call* is the verb whose answer is lost at the script's call *number*.

    The verb itself asks again if it *repeats*; else its caller does, or somebody who cannot know. *second* is what the second call answers
    when that is not the first one's answer, *more* the keys that it writes once more, and *because* says why either is harmless.
    """

    call: Callable[[Shard], Any]
    begin: Callable[[Shard], Any] = lambda shard: None
    repeats: bool = False
    number: int = 1
    second: Any = SAME
    more: tuple[str, ...] = ()
    because: str = ""


def first(*steps: Callable[[Shard], Any]) -> Callable[[Shard], None]:
    """Return what takes *steps* in their order."""

    def begin(shard: Shard) -> None:
        for step in steps:
            step(shard)

    return begin


def store_recurring(shard: Shard) -> None:
    assert shard.timetable.writing.put([recurring(2)])[1] == ["put"]


def store_once(shard: Shard) -> None:
    assert shard.timetable.writing.put_one_time([one_time(3)])[1] == ["put"]


NEWS = (KEYS.news, KEYS.news_seq)
HEARD_TWICE = "who hears it looks at the entry again and finds it as it is"
CHANGED = {"version": 1, "mark_ms": 1000, "due_ms": None, "fields": [("paused", "1")], "skipped": SKIPPED}

ROWS: dict[str, Row] = {
    # Leadership
    "acquire": Row(
        call=lambda shard: shard.election.acquire("me", lease_ms=60_000),
        because="who leads already begins a new term, with a higher epoch",
    ),
    "renew": Row(
        begin=Shard.lead,
        call=lambda shard: shard.election.renew(shard.epoch, lease_ms=60_000),
        more=(KEYS.leader,),
        because="the counter only has to move",
    ),
    "resign": Row(
        begin=Shard.lead,
        call=lambda shard: shard.election.resign(int(shard.client.get(KEYS.epoch) or 0)),
        second=False,
        because="it is not repeated; it would find nothing to end",
    ),
    "hold_clock": Row(begin=Shard.lead, call=lambda shard: shard.election.hold_clock(shard.epoch, step_ms=10_000)),
    # What clients write
    "put": Row(
        call=lambda shard: shard.timetable.writing.put([recurring(2)])[1],
        second=["raced"],
        because="whoever is told so reads again, and finds its own definition",
    ),
    "put_once": Row(call=lambda shard: shard.timetable.writing.put_one_time([one_time(3)])[1], more=NEWS, because=HEARD_TWICE),
    "change": Row(
        begin=store_recurring,
        call=lambda shard: shard.timetable.writing.change(2, **CHANGED),
        second=False,
        because="whoever is told so reads again, and finds it changed",
    ),
    "hold": Row(
        begin=store_once,
        call=lambda shard: shard.timetable.writing.hold(3, pause=True),
        second="same",
        because="the caller finds that it was paused already",
    ),
    "hurry": Row(begin=store_once, call=lambda shard: shard.timetable.writing.hurry(3), more=NEWS, because=HEARD_TWICE),
    "remove": Row(
        begin=store_recurring,
        call=lambda shard: shard.timetable.writing.remove("tick", 2),
        second="gone",
        because="the caller is told that there is no such entry, which is so",
    ),
    "open_backlog": Row(begin=store_recurring, call=Shard.open_backlog),
    "claim_static": Row(begin=store_recurring, call=lambda shard: shard.timetable.static.claim(["tick"], process_start_ms=5)),
    "defer": Row(call=Shard.defer, repeats=True),
    "cancel": Row(begin=Shard.defer, call=lambda shard: shard.cancelling.cancel(["t1"]), repeats=True, number=2),
    "eject": Row(
        begin=Shard.defer,
        call=Shard.eject,
        repeats=True,
        second="gone",
        because="it is counted as gone by itself, and its message is in the queue once",
    ),
    # What only reads
    "page": Row(
        begin=store_once,
        call=lambda shard: shard.dispatching.page(cursor_ms=0, cursor_member="", until_ms=5000, limit=10),
    ),
    "poll": Row(begin=store_once, call=lambda shard: shard.dispatching.poll(now_ms=5000, limit=10, backlogs=10)),
    "containing": Row(begin=Shard.defer, call=lambda shard: shard.cancelling.containing([3], [b"m1"])),
    # What the leader writes
    "fire": Row(
        begin=first(Shard.lead, store_recurring),
        call=lambda shard: shard.fire()[1],
        second=["moved"],
        because="the entry is read again, and its next slot waited for",
    ),
    "fire_once": Row(
        begin=first(Shard.lead, store_once), call=lambda shard: shard.fire_once()[1], second=["gone"], because="nothing is left to fire"
    ),
    # Lanes
    "admit": Row(
        begin=first(Shard.lead, Shard.enter),
        call=lambda shard: shard.admit()[1],
        second=["gone"],
        because="what has been admitted is in the queue once, and counted",
    ),
    "enter": Row(begin=Shard.lead, call=Shard.enter, repeats=True),
    "boost": Row(begin=first(Shard.lead, Shard.enter), call=lambda shard: shard.lanes.boost("celery", [3], to="high"), repeats=True),
    "make_room": Row(
        begin=first(Shard.lead, Shard.enter), call=lambda shard: shard.admitting.make_room(shard.epoch, {"celery": (5, "fair")})
    ),
    "report_starving": Row(
        begin=Shard.lead, call=lambda shard: shard.admitting.report(shard.epoch, "celery", from_ms=None, to_ms=2000), repeats=True
    ),
    "drain": Row(
        begin=first(Shard.lead, store_recurring, Shard.open_backlog),
        call=Shard.drain,
        second="moved",
        because="the backlog is read again, and goes on from its next slot",
    ),
    "note_open_fire": Row(call=lambda shard: shard.open_fires.begin("tick", "t", kept_ms=60_000)),
    "end_open_fire": Row(
        begin=first(store_recurring, Shard.queue_fire),
        call=lambda shard: shard.open_fires.end("tick", "t"),
        repeats=True,
        more=NEWS,
        because=HEARD_TWICE,
    ),
    "quarantine": Row(
        begin=first(Shard.lead, store_recurring), call=lambda shard: shard.dispatching.quarantine(shard.epoch, "2", "not JSON")
    ),
    "rerender": Row(
        begin=first(Shard.lead, store_once),
        call=Shard.rerender,
        second=False,
        because="the task is taken in hand again, and has the message of the present broker",
    ),
    "sweep_templates": Row(begin=first(Shard.lead, store_once), call=lambda shard: shard.dispatching.sweep_templates(shard.epoch)),
    "unbury": Row(
        begin=first(Shard.lead, Shard.claim_messages, Shard.bury),
        call=Shard.unbury,
        number=2,
        second=(0, 0),
        because="a person is told that somebody was first, and nothing is sent or recorded twice",
    ),
    "settle": Row(begin=first(Shard.lead, Shard.claim_messages), call=Shard.settle),
    # Dead letters
    "bury": Row(begin=Shard.acquire, call=Shard.bury_letter, repeats=True),
    "requeue_letters": Row(begin=Shard.bury_letter, call=Shard.requeue_letter, repeats=True),
    "drop_letters": Row(
        begin=Shard.bury_letter,
        call=lambda shard: shard.letters.drop(["m"]),
        second=(0, 0),
        because="the caller is told that nothing is left to drop, which is so",
    ),
    # Runs
    "accept_run": Row(begin=Shard.lead, call=Shard.accept),
    "acquire_run": Row(call=Shard.acquire),
    "ran": Row(begin=Shard.acquire, call=lambda shard: shard.runs.ran("m", shard.token, b"1")),
    "finish_run": Row(
        begin=Shard.acquire,
        call=lambda shard: shard.finish("done", Right.of_owner("host:1:")),
        second=(False, 0),
        because="the caller takes the end whose answer was lost for its own",
    ),
    "conclude_run": Row(
        begin=Shard.acquire,
        call=Shard.conclude,
        second=False,
        because="the caller takes the end whose answer was lost for its own",
    ),
    "beat": Row(begin=Shard.acquire, call=Shard.beat, more=(KEYS.running,), because="the counter only has to move"),
    "save_checkpoint": Row(begin=Shard.acquire, call=Shard.save, more=(KEYS.running,), because="the counter only has to move"),
    "clear_checkpoint": Row(
        begin=first(Shard.acquire, Shard.save), call=lambda shard: shard.runs.checkpoints.clear("m", shard.token, task_id="t")
    ),
    "cancel_run": Row(begin=Shard.acquire, call=lambda shard: shard.runs.under_way.ask_to_cancel("t", "enough")),
    "reassign": Row(
        begin=first(Shard.lead, Shard.accept, Shard.acquire),
        call=Shard.reassign,
        second=("refused", 0),
        because="it waits in the timetable already, and is lost once",
    ),
    "resend": Row(
        begin=first(Shard.lead, Shard.accept, Shard.acquire, Shard.wait_in_vain),
        call=Shard.resend,
        second="moved",
        because="it is put into the timetable once, and whoever begins it does so once",
    ),
    "plan_termination": Row(call=lambda shard: shard.terminations.plan("m", after_ms=1000)),
    "park": Row(begin=Shard.acquire, call=Shard.park, repeats=True),
    "take_retry": Row(call=lambda shard: shard.budgets.take("shop.tick", tokens=1, per_ms=1000), repeats=True),
    "draw_number": Row(call=lambda shard: shard.runs.sends.draw_number("k", "m1")),
    "claim_unique": Row(call=lambda shard: shard.runs.sends.claim_unique("k", "t1", kept_ms=60_000)),
}


def test_what_was_admitted_is_not_admitted_again_when_the_answer_was_lost(redis_client: redis.Redis, proxy: CuttingProxy) -> None:
    redis_client.script_load(script("admit").text)
    shard = Shard(proxy.client())
    shard.lead()
    shard.enter()
    proxy.cut_answers_to(script("admit").digest.encode(), number=1)

    with pytest.raises(StoreUnavailable):
        shard.admit()

    assert shard.admit()[1] == ["gone"]
    assert redis_client.llen("celery") == 1
    assert shard.lanes.admitted("celery", minutes=5, now_ms=shard.timetable.now_ms()) == {"high": 0, "medium": 0, "low": 1}


@pytest.fixture
def proxy(redis_server: EmbeddedServer) -> Iterator[CuttingProxy]:
    with CuttingProxy(str(redis_server.socket_path)) as proxy:
        yield proxy


def test_every_script_has_its_row() -> None:
    assert sorted(ROWS) == script_names(), "a new script needs a row that shows what a second call of it does"


@pytest.mark.parametrize("name", sorted(ROWS))
def test_a_call_whose_answer_is_lost_and_which_is_repeated_leaves_what_one_call_leaves(
    name: str, redis_client: redis.Redis, proxy: CuttingProxy
) -> None:
    row = ROWS[name]
    redis_client.script_load(script(name).text)
    shard = Shard(redis_client)
    row.begin(shard)
    answer = row.call(shard)
    state = standing(redis_client, without=row.more)

    redis_client.flushall()
    row.begin(Shard(redis_client))
    answer_of_two = called_twice(row, Shard(proxy.client()), proxy, digest=script(name).digest)

    assert proxy.cuts == 1
    assert timeless(repr(answer_of_two)) == timeless(repr(answer if row.second is SAME else row.second))
    assert standing(redis_client, without=row.more) == state
    assert row.because or (row.second is SAME and not row.more)


def called_twice(row: Row, shard: Shard, proxy: CuttingProxy, *, digest: str) -> Any:
    """Call the verb of *row* so that the answer to its script is lost; return what the repeated call answers."""
    proxy.cut_answers_to(digest.encode(), number=row.number)
    if row.repeats:
        return row.call(shard)
    with pytest.raises(StoreUnavailable):
        row.call(shard)
    return row.call(shard)


MOMENT = re.compile(r"(?<!\d)1[6-9]\d{11}(-\d+)?(?!\d)")
NONCE = re.compile(r"\b[0-9a-f]{32}\b")
NUMBER = re.compile(r"\b\d{19}\b")


def timeless(text: str) -> str:
    """Return *text* with each present moment, each nonce, and each number of a message as one and the same."""
    return NUMBER.sub("<number>", NONCE.sub("<nonce>", MOMENT.sub("<now>", text)))


def standing(client: redis.Redis, *, without: tuple[str, ...]) -> list[str]:
    """Return all that stands in Redis but the keys *without*, a key each, with whether it expires, as text that tells no time."""
    found = []
    for key in client.scan_iter():
        if key.decode() in without:
            continue
        lives = "expires" if client.pttl(key) > 0 else "stays"
        found.append(timeless(f"{key.decode(errors='replace')} {lives} {_content(client, key)!r}"))
    return sorted(found)


def _content(client: redis.Redis, key: bytes) -> Any:
    reading: dict[bytes, Callable[[], Any]] = {
        b"string": lambda: client.get(key),
        b"list": lambda: client.lrange(key, 0, -1),
        b"hash": lambda: sorted(client.hgetall(key).items()),
        b"set": lambda: sorted(client.smembers(key)),
        b"zset": lambda: [(member, int(score)) for member, score in client.zrange(key, 0, -1, withscores=True)],
        b"stream": lambda: client.xrange(key),
    }
    return reading[client.type(key)]()
