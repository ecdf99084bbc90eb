"""Lanes: messages for a fair queue that wait for their turn, as the processes of the app see them. Admission is in ``admitting.py``.

A waiting message is a one-time task of the timetable whose id is in a lane of its queue instead of in ``due``; the score is when it came.
What is known of one-time tasks holds for it: its record, ``by-task``, its cancellation.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from celery_tw.clock import Clock
from celery_tw.core.lane import LANES
from celery_tw.errors import StoreUnavailable
from celery_tw.stores.redis.codec import SCHEMA
from celery_tw.stores.redis.deferring import TRAVEL_MS
from celery_tw.stores.redis.keys import ADMITTED_KEPT_MS, NEWS_KEPT, Keys
from celery_tw.stores.redis.records import Records
from celery_tw.stores.redis.scripts import Argument, RedisClient, asked_twice, script, translated_errors
from celery_tw.stores.redis.templates import CUTTER

BOOSTED_AT_ONCE = 500
FAR_FUTURE_MS = 2**53


@dataclass(frozen=True, slots=True, kw_only=True)
class Entering:
    """A message for a fair queue; *rest* is its whole record from the line after the moment of storing."""

    entry_id: int
    mid: str
    task_id: str
    queue: str
    lane: str
    rest: bytes


@dataclass(frozen=True, slots=True)
class Waits:
    """A message that waits in *lane* since *since_ms*; its whole *record* is empty when it has gone on meanwhile."""

    entry_id: int
    lane: str
    since_ms: int
    record: bytes = b""


@dataclass(frozen=True, slots=True)
class Crowd:
    """How many messages wait in *lane*, and since when the oldest does, in ms (None: there is none)."""

    lane: str
    waiting: int
    oldest_ms: int | None


class Lanes:
    """The verbs, on one shard; a leader that was seen within *lease_ms* is taken to lead."""

    def __init__(self, client: RedisClient, keys: Keys, *, lease_ms: int, clock: Clock) -> None:
        self.client = client
        self.keys = keys
        self.lease_ms = lease_ms
        self.clock = clock
        self.records = Records(client, keys)

    def enter(self, message: Entering) -> tuple[int, str]:
        """Ask whether *message* goes straight on, and store it if not.

        Return Redis time in ms and straight, waiting, leaderless, taken, fired or cancelled, as ``enter.lua`` says. A call whose answer was
        lost is repeated once. Raises `StoreUnavailable` when it is not known whether the message was stored, `StoreRefused` when it was
        not.
        """
        begun_ms = self.clock.boot_ms()
        try:
            return self._enter(message, begun_ago="")
        except StoreUnavailable:
            return self._enter(message, begun_ago=self.clock.boot_ms() - begun_ms + TRAVEL_MS)

    def _enter(self, message: Entering, *, begun_ago: Argument) -> tuple[int, str]:
        shard, queue = self.keys, message.queue
        keys: list[str | bytes] = [shard.by_task, shard.fired, shard.news, shard.news_seq, shard.schema, shard.cancelled, shard.seen]
        keys += (shard.leader, shard.entry(message.entry_id), shard.templates, shard.template_dues, shard.lanes)
        keys += (shard.room(queue), shard.admitted(queue), *shard.lanes_of(queue))
        cut = CUTTER.cut(message.mid.encode(), message.rest)
        args: list[Argument] = [begun_ago, message.entry_id, message.mid, message.task_id, cut.rest, self.lease_ms, SCHEMA, NEWS_KEPT]
        args += (cut.template.template_id, cut.template.text, queue, message.lane, LANES.index(message.lane) + 1, ADMITTED_KEPT_MS)
        now, status = script("enter").run(self.client, keys, args)
        return int(now), str(status, "ascii")

    def queues(self) -> list[str]:
        """Return the names of the queues that have messages waiting in lanes, or had a moment ago."""
        with translated_errors("SMEMBERS"):
            return sorted(name.decode() for name in self.client.smembers(self.keys.lanes))

    def crowds(self, queue: str) -> list[Crowd]:
        """Return how much waits in each lane of *queue*, high first."""
        with translated_errors("crowds"), self.client.pipeline(transaction=False) as pipe:
            for key in self.keys.lanes_of(queue):
                pipe.zcard(key).zrange(key, 0, 0, withscores=True)
            replies = pipe.execute()
        pairs = zip(LANES, replies[::2], replies[1::2], strict=True)
        return [Crowd(lane, int(waiting), int(first[0][1]) if first else None) for lane, waiting, first in pairs]

    def count(self, queue: str, *, until_ms: int) -> dict[str, int]:
        """Return how many messages wait in each lane of *queue* that came until *until_ms*."""
        with translated_errors("ZCOUNT"), self.client.pipeline(transaction=False) as pipe:
            for key in self.keys.lanes_of(queue):
                pipe.zcount(key, "-inf", until_ms)
            return dict(zip(LANES, map(int, pipe.execute()), strict=True))

    def admitted(self, queue: str, *, minutes: int, now_ms: int) -> dict[str, int]:
        """Return how many messages went on to *queue* from each lane, in the last *minutes* and the present one.

        A message counts for the lane in whose turn it went, which is another than its own when it was promoted.
        """
        with translated_errors("HGETALL"):
            stored = self.client.hgetall(self.keys.admitted(queue))
        counts = dict.fromkeys(LANES, 0)
        for field, count in stored.items():
            minute, _, lane = field.decode().partition(" ")
            if lane in counts and int(minute) >= now_ms // 60_000 - minutes:
                counts[lane] += int(count)
        return counts

    def page(self, queue: str, lane: str, *, first: int = 0, limit: int = 100, until_ms: int | None = None) -> list[Waits]:
        """Return up to *limit* messages of a lane, the oldest first, from the *first* on; none that came after *until_ms*."""
        latest: Argument = "+inf" if until_ms is None else until_ms
        with translated_errors("ZRANGE"):
            found = self.client.zrange(self.keys.lane(queue, lane), "-inf", latest, byscore=True, offset=first, num=limit, withscores=True)
        return self.read([Waits(int(member), lane, int(score)) for member, score in found])

    def pages(self, queue: str, lane: str, *, limit: int, until_ms: int | None = None) -> Iterator[list[Waits]]:
        """Yield all messages of a lane in pages, the oldest first; what leaves or comes meanwhile may be among them, and hides no other."""
        key, latest = self.keys.lane(queue, lane), FAR_FUTURE_MS if until_ms is None else until_ms
        cursor_ms, cursor_member = 0, ""
        while found := script("page").run(self.client, [key], [cursor_ms, cursor_member, latest, limit]):
            cursor_ms, cursor_member = int(float(found[-1])), found[-2].decode()
            yield self.read([Waits(int(member), lane, int(float(score))) for member, score in zip(found[::2], found[1::2], strict=True)])

    def under_task(self, queue: str, task_id: str) -> list[Waits]:
        """Return what waits in the lanes of *queue* under *task_id*."""
        with translated_errors("under task"), self.client.pipeline(transaction=False) as pipe:
            ids = (self.client.hget(self.keys.by_task, task_id) or b"").split()
            if not ids:
                return []
            for key in self.keys.lanes_of(queue):
                pipe.zmscore(key, ids)
            rows = pipe.execute()
        return self.read(
            [
                Waits(int(member), lane, int(score))
                for lane, scores in zip(LANES, rows, strict=True)
                for member, score in zip(ids, scores, strict=True)
                if score is not None
            ]
        )

    def read(self, waiting: Sequence[Waits]) -> list[Waits]:
        """Return *waiting* with their records."""
        if not waiting:
            return []
        with translated_errors("MGET"):
            stored = self.client.mget([self.keys.entry(message.entry_id) for message in waiting])
        whole = self.records.whole(stored)
        return [Waits(each.entry_id, each.lane, each.since_ms, record or b"") for each, record in zip(waiting, whole, strict=True)]

    def boost(self, queue: str, entry_ids: Sequence[int], *, to: str) -> int:
        """Let those of *entry_ids* that wait in a lane of *queue* wait in the lane *to*; return how many do then."""
        keys: list[str | bytes] = [self.keys.lane(queue, to), *(self.keys.lane(queue, lane) for lane in LANES if lane != to)]
        there = 0
        for begin in range(0, len(entry_ids), BOOSTED_AT_ONCE):
            ids: list[Argument] = list(entry_ids[begin : begin + BOOSTED_AT_ONCE])
            there += asked_twice(lambda ids=ids: int(script("boost").run(self.client, keys, ids)))  # type: ignore[misc]
        return there
