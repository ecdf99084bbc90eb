"""A whole scheduler without Celery: the real engine and stores, and a workshop that writes readable messages."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import redis

from celery_tw.clock import RedisTime, SystemClock
from celery_tw.core.bounds import Bounded
from celery_tw.core.command import Command, Fire
from celery_tw.core.definition import Definition
from celery_tw.core.spec import recurrence_from_spec
from celery_tw.leadership.elector import Elector
from celery_tw.scheduler.assembly import assemble
from celery_tw.scheduler.engine import Engine
from celery_tw.scheduler.outbox import Outbox
from celery_tw.scheduler.ports import Prepared, Publisher
from celery_tw.settings import Settings
from celery_tw.stores.redis.claims import Claims
from celery_tw.stores.redis.codec import OneTime, encode_definition
from celery_tw.stores.redis.election import Election
from celery_tw.stores.redis.envelope import NEUTRAL, Envelope, write_envelope
from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.redis.news import NewsReader
from celery_tw.stores.redis.timetable import Timetable
from celery_tw.stores.redis.writing import OneTimeWrite, RecurringWrite

KEYS = Keys("shop")


@dataclass(frozen=True)
class Message:
    """A message that says its entry and slot."""

    queue: bytes = b"queue"
    timeless: bool = True
    messages: int = 1
    neutral: bool = False

    def commands(self, fire: Fire) -> list[Command]:
        if self.neutral:
            return [Command("claim", self.queue, neutral(fire, part)) for part in range(self.messages)]
        return [Command("lpush", self.queue, f"{fire.entry_name} {fire.slot_ms} {fire.fire_id}".encode())]


def neutral(fire: Fire, part: int = 0) -> bytes:
    """Return a message of *fire* in neutral form; several of one fire differ in their task ids."""
    headers = {
        "id": f"{fire.fire_id}{part or ''}",
        "tw_mid": fire.fire_id,
        "tw_slot": fire.slot_ms,
        "periodic_task_name": fire.entry_name,
    }
    return write_envelope(
        Envelope(
            body=b"[[],{},{}]",
            content_type="application/json",
            content_encoding="utf-8",
            headers=headers,
            properties={},
            exchange="",
            routing_key="queue",
        )
    )


class PlainWorkshop:
    """Prepares definitions without Celery; *neutral* for a broker apart."""

    def __init__(self, *, neutral: bool = False) -> None:
        self.neutral = neutral

    def prepare(self, definition: Definition) -> Prepared:
        recurrence = Bounded(recurrence_from_spec(definition.schedule), start_ms=definition.start_ms, end_ms=definition.end_ms)
        queue = str(definition.signature.get("queue", "queue")).encode()
        messages = int(definition.signature.get("messages", 1))
        return Prepared(definition, recurrence, Message(queue, messages=messages, neutral=self.neutral))

    def fingerprint(self) -> object:
        return 1

    def broker_fingerprint(self) -> str:
        return NEUTRAL if self.neutral else "f"

    def render_again(self, record: bytes) -> bytes:
        return record.replace(b"\nold\n", b"\nf\n", 1)


class NoSettings:
    """Installs nothing."""

    def install(self) -> None:
        return None


@dataclass
class Stand:
    """One scheduler process on the empty server, stepped by hand."""

    client: redis.Redis
    settings: Settings = field(default_factory=lambda: Settings(namespace="shop"))
    owner: str = "me"
    publisher: Publisher | None = None

    def __post_init__(self) -> None:
        self.clock = SystemClock()
        self.timetable = Timetable(self.client, KEYS)
        redis_time = RedisTime(self.clock)
        self.elector = Elector(
            Election(self.client, KEYS), clock=self.clock, redis_time=redis_time, owner=self.owner, lease_ms=60_000, max_skew_ms=5000
        )
        self.claims = Claims(self.client, KEYS, lease_ms=60_000)
        self.outbox = self.publisher and Outbox(
            claims=self.claims, publisher=self.publisher, elector=self.elector, clock=self.clock, redis_time=redis_time
        )
        self.engine: Engine = assemble(
            self.client,
            KEYS,
            self.settings,
            namespace="shop",
            elector=self.elector,
            workshop=PlainWorkshop(neutral=self.publisher is not None),
            installer=NoSettings(),
            clock=self.clock,
            redis_time=redis_time,
            room=self.outbox and self.outbox.parcels.room,
        )
        self.news = NewsReader(self.client, KEYS)
        self.news.catch_up()

    def lead(self) -> "Stand":
        self.elector.step()
        assert self.elector.leads()
        return self

    def listen(self) -> None:
        self.engine.hear(*self.news.read(block_ms=1))

    def run(self, steps: int = 20) -> None:
        """Step, news included, until nothing is to be done at once, or *steps* times."""
        for _ in range(steps):
            self.listen()
            if self.engine.step() > 0:
                return

    def put(self, name: str = "tick", *, period_ms: int = 1000, mark_ms: int, due_ms: int | None = None, **changes: object) -> int:
        """Store an interval entry whose last decided slot is *mark_ms*; its grid goes through it."""
        (entry_id,) = self.timetable.reserve(1, one_time=False)
        spec = {"kind": "interval", "period_ms": period_ms, "anchor_ms": mark_ms % period_ms}
        fields: dict[str, object] = {"name": name, "signature": {"task": "shop.tick"}, "schedule": spec, **changes}
        definition = Definition(**fields)  # type: ignore[arg-type]
        write = RecurringWrite(
            name=name,
            entry_id=entry_id,
            version=None,
            definition=encode_definition(definition),
            mark_ms=mark_ms,
            due_ms=mark_ms + period_ms if due_ms is None else due_ms,
        )
        assert self.timetable.writing.put([write])[1] == ["put"]
        return entry_id

    def put_once(self, name: str, due_ms: int, *, fingerprint: str = "f", delivery: str = "at_least_once") -> int:
        (entry_id,) = self.timetable.reserve(1, one_time=True)
        message = f"{name} {due_ms} mid-{name}".encode()
        record = OneTime(
            mid=f"mid-{name}",
            name=name,
            stored_ms=due_ms,
            last_ms=None,
            fingerprint=fingerprint,
            queue_key="queue",
            extra={} if delivery == "at_least_once" else {"delivery": delivery},
            message=neutral(Fire(f"mid-{name}", due_ms, name)) if fingerprint == NEUTRAL else message,
        )
        self.timetable.writing.put_one_time(
            [OneTimeWrite(name=name, entry_id=entry_id, mid=record.mid, due_ms=due_ms, record=record.pack())]
        )
        return entry_id

    def sent(self, queue: str = "queue") -> list[tuple[str, int]]:
        """Return what has been sent, oldest first: entry name and slot."""
        words = [message.decode().split() for message in reversed(self.client.lrange(queue, 0, -1))]
        return [(name, int(slot)) for name, slot, _ in words]

    def now_ms(self) -> int:
        return self.timetable.now_ms()


@pytest.fixture
def stand(redis_client: redis.Redis) -> Stand:
    return Stand(redis_client)


@pytest.fixture
def make_stand(redis_client: redis.Redis) -> Callable[..., Stand]:
    def make(owner: str, **settings: object) -> Stand:
        return Stand(redis_client, Settings(namespace="shop", **settings), owner)  # type: ignore[arg-type]

    return make
