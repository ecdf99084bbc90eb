"""Admitting: what the leader reads and writes about lanes. The admission itself is in ``dispatching.py``, with the other fires."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from celery_tw.core.lane import LANES
from celery_tw.core.shares import Segment
from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.redis.lanes import Lanes, Waits
from celery_tw.stores.redis.scripts import Argument, RedisClient, asked_twice, script, translated_errors

Standing = Literal["fair", "former"]


@dataclass(frozen=True, slots=True)
class Stand:
    """How a queue stood: of the room it was given, *left* was not used; *waiting* messages are in each lane, high first."""

    left: int
    waiting: tuple[int, ...]

    @property
    def total(self) -> int:
        """Return how many messages wait."""
        return sum(self.waiting)


class Admitting:
    """The verbs, on one shard; *lanes* reads what anybody may read."""

    def __init__(self, client: RedisClient, keys: Keys, lanes: Lanes, *, lease_ms: int) -> None:
        self.client = client
        self.keys = keys
        self.lanes = lanes
        self.lease_ms = lease_ms

    def heads(
        self, queue: str, segments: Mapping[Segment, tuple[int | None, int | None]], *, limit: int
    ) -> dict[Segment, list[tuple[int, int]]]:
        """Return the *limit* oldest messages of each segment, as pairs of the ms in which they came and id."""
        with translated_errors("heads"), self.client.pipeline(transaction=False) as pipe:
            for segment, (first_ms, last_ms) in segments.items():
                pipe.zrange(
                    self.keys.lane(queue, segment.own),
                    "-inf" if first_ms is None else first_ms,
                    "+inf" if last_ms is None else last_ms,
                    byscore=True,
                    offset=0,
                    num=limit,
                    withscores=True,
                )
            found = _sets(pipe.execute(raise_on_error=False))
        return {segment: [(int(score), int(member)) for member, score in pairs] for segment, pairs in zip(segments, found, strict=True)}

    def make_room(self, epoch: int, rooms: Mapping[str, tuple[int, Standing]]) -> dict[str, Stand]:
        """Give producers room in queues, how much and whether they are still fair; return how each stood."""
        keys: list[str | bytes] = [self.keys.leader, self.keys.lanes]
        args: list[Argument] = [epoch, self.lease_ms]
        for queue, (room, standing) in rooms.items():
            keys += (self.keys.room(queue), *self.keys.lanes_of(queue))
            args += (queue, max(room, 0), standing)
        reply = [int(number) for number in script("make_room").run(self.client, keys, args)]
        width = 1 + len(LANES)
        return {
            queue: Stand(reply[at], tuple(reply[at + 1 : at + width])) for queue, at in zip(rooms, range(0, len(reply), width), strict=True)
        }

    def reported_until(self, queue: str) -> int | None:
        """Return the ms up to which starving messages of *queue* have been reported, None if none were."""
        with translated_errors("HGET"):
            until = self.client.hget(self.keys.starved, queue)
        return None if until is None else int(until)

    def report(self, epoch: int, queue: str, *, from_ms: int | None, to_ms: int) -> bool:
        """Take it upon oneself to report what came after *from_ms* and until *to_ms*; return False when another has done so."""
        keys: list[str | bytes] = [self.keys.leader, self.keys.starved]
        args: list[Argument] = [epoch, queue, "" if from_ms is None else from_ms, to_ms]
        return bool(asked_twice(lambda: script("report_starving").run(self.client, keys, args)))

    def came_between(self, queue: str, *, after_ms: int | None, until_ms: int, limit: int | None = None) -> list[Waits]:
        """Return what waits in the lanes of *queue* and came in that range, without records, up to *limit* of each lane."""
        first = "-inf" if after_ms is None else f"({after_ms}"
        with translated_errors("came between"), self.client.pipeline(transaction=False) as pipe:
            for key in self.keys.lanes_of(queue):
                pipe.zrange(key, first, until_ms, byscore=True, offset=0, num=-1 if limit is None else limit, withscores=True)
            rows = _sets(pipe.execute(raise_on_error=False))
        return [Waits(int(member), lane, int(score)) for lane, row in zip(LANES, rows, strict=True) for member, score in row]


def _sets(replies: Sequence[Any]) -> list[Sequence[tuple[bytes, float]]]:
    """Return *replies*, with nothing for what stands in the place of a lane and is none; raises any other error."""
    for reply in replies:
        if isinstance(reply, Exception) and not str(reply).startswith("WRONGTYPE"):
            raise reply
    return [[] if isinstance(reply, Exception) else reply for reply in replies]
