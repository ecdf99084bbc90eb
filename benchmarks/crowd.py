"""Crowd: any number of messages waiting in the lanes of a queue, written in bulk as copies of three that were sent."""

from collections.abc import Iterator, Sequence
from itertools import count, islice
from uuid import uuid4

import redis
from celery import Celery

from benchmarks.application import KWARGS, QUEUE
from celery_tw import TimeWheel
from celery_tw.core.lane import LANES
from celery_tw.integration.connected import Connected
from celery_tw.stores.redis.keys import Keys

FIRST_ID = 1_000_001
CHUNK = 5_000


class Crowd:
    """What waits for `QUEUE` in the timetable of *app*; somebody has to lead as it is made, and not admit anything."""

    def __init__(self, app: Celery, client: redis.Redis) -> None:
        self.client = client
        self.keys: Keys = Connected(app).keys
        self._ids = count(FIRST_ID, 2)
        self._originals = [self._original(app, lane) for lane in LANES]

    def _original(self, app: Celery, lane: str) -> tuple[str, bytes, bytes]:
        """Return a lane, the stored record of a message that waits there, and that message's id; it waits no longer."""
        task_id = app.tasks["benchmarks.work"].apply_async((1,), KWARGS, lane=lane).id
        record = self.client.get(self.keys.entry(int(self.client.hget(self.keys.by_task, task_id) or 0))) or b""
        TimeWheel(app).cancel(task_id)
        return lane, record, task_id.encode()

    def grow(self, number: int, *, since_ms: int) -> None:
        """Add *number* messages, the lanes in turn, that came one each millisecond up to *since_ms*."""
        numbered = enumerate(islice(self._ids, number))
        while chunk := list(islice(numbered, CHUNK)):
            self._add([(since_ms - number + place, entry_id) for place, entry_id in chunk])

    def _add(self, arrivals: Sequence[tuple[int, int]]) -> None:
        records: dict[str | bytes, bytes] = {}
        lanes: dict[str, dict[str, int]] = {lane: {} for lane in LANES}
        by_task: dict[str | bytes, int] = {}
        for place, (since_ms, entry_id) in enumerate(arrivals):
            lane, record, task_id = self._originals[place % len(LANES)]
            own_id = str(uuid4()).encode()
            records[self.keys.entry(entry_id)] = record.replace(task_id, own_id)
            lanes[lane][str(entry_id)] = since_ms
            by_task[own_id] = entry_id
        with self.client.pipeline(transaction=False) as pipe:
            pipe.mset(records)  # type: ignore[arg-type]
            pipe.hset(self.keys.by_task, mapping=by_task)  # type: ignore[arg-type]
            for lane, members in lanes.items():
                if members:
                    pipe.zadd(self.keys.lane(QUEUE, lane), members)
            pipe.sadd(self.keys.lanes, QUEUE)
            pipe.execute()

    def waiting(self) -> int:
        """Return how many messages wait."""
        return sum(self.client.zcard(key) for key in self._lanes())

    def _lanes(self) -> Iterator[str]:
        yield from self.keys.lanes_of(QUEUE)
