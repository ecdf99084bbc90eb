"""A shop with one fair queue, for tests of lanes with a leader and a stock worker."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from celery import Celery

from celery_tw import TimeWheel
from celery_tw.integration.broker import shares_redis
from celery_tw.integration.node import Node
from celery_tw.stores.redis.election import Election, Led
from celery_tw.stores.redis.keys import Keys
from tests.stock_worker import stock_worker
from tests.waiting import wait_until

KEYS = Keys("shop")
TIMEOUT_S = 30


class Shop:
    """An app with one fair queue, and what its tasks noted when they started: the lane that they were sent in, and a word of their own."""

    def __init__(self, app: Celery, queue: str, client: redis.Redis) -> None:
        self.app = app
        self.queue = queue
        self.client = client
        self.starts: list[tuple[str, str]] = []
        self.wheel = TimeWheel(app)

        @app.task(name="note", bind=True, shared=False)
        def note(task: Any, word: str = "") -> None:
            self.starts.append((task.request.tw_lane, word))

        self.note = note

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Lead, and admit nothing."""
        election = Election(self.client, KEYS)
        wait_until(lambda: isinstance(election.acquire("held", lease_ms=60_000), Led), message="the lead to be free")
        yield
        self.client.delete(KEYS.leader)

    def store(self, lane: str, count: int, *, word: str = "", age_ms: int = 0) -> None:
        """Let tasks wait in a lane, as if they had done so for *age_ms*."""
        ids = [self.note.apply_async((word,), lane=lane).id for _ in range(count)]
        if age_ms:
            found = [each for task_id in ids for each in self.wheel.lanes._lanes.under_task(self.queue, task_id)]
            self.client.zadd(KEYS.lane(self.queue, lane), {each.entry_id: each.since_ms - age_ms for each in found})

    @contextmanager
    def leading(self) -> Iterator[Node]:
        """Run a scheduler."""
        node = Node(self.app)
        node.start()
        try:
            wait_until(node.elector.leads, TIMEOUT_S, message="the scheduler to lead")
            yield node
        finally:
            node.close()

    def fill(self) -> None:
        """Put more into the queue itself than it is to hold, so that nothing is admitted."""
        with self.app.connection_for_write() as connection:
            producer, queue = connection.Producer(), self.app.amqp.queues[self.queue]
            for _ in range(20):
                producer.publish({}, routing_key=self.queue, declare=[queue], retry=False)

    @contextmanager
    def working(self, *, concurrency: int = 1) -> Iterator[None]:
        """Run a worker in this process that runs so many tasks at once.

        One by one is solo on Redis, where the threads of the oldest Celery come to a standstill, and threads on RabbitMQ, where solo takes
        seconds for each.
        """
        pool = "solo" if concurrency == 1 and shares_redis(self.app) else "threads"
        with stock_worker(self.app, pool=pool, concurrency=concurrency):
            yield

    def work(self, starts: int) -> list[tuple[str, str]]:
        """Let a scheduler lead and a worker work until so many tasks have started; return those."""
        with self.leading(), self.working():
            wait_until(lambda: len(self.starts) >= starts, TIMEOUT_S, message=f"{starts} starts")
        return self.starts[:starts]

    def waiting(self) -> list[int]:
        """Return how many tasks wait in each lane, high first."""
        return [crowd.waiting for crowd in self.wheel.lanes._lanes.crowds(self.queue)]
