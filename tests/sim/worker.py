"""Worker: what empties the fair queue, one message after the other, so that there is room again.

It says what it consumes as workers do. No fault strikes it but those of the server: how fast a queue is emptied makes no message late.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import redis

from celery_tw.errors import StoreUnavailable
from celery_tw.scheduler.measuring import ANNOUNCED_EACH_MS
from celery_tw.stores.redis.consumers import Consumers
from tests.sim.messages import FAIR
from tests.sim.server import KEYS, Server
from tests.sim.timeline import Host, Timeline
from tests.sim.wire import Caller

CONCURRENCY = 2
LOOK_AGAIN_US = 20_000
AWAY_US = 200_000


class Worker:
    """Takes *work_ms* for a task, and hardly any time once *hurried*."""

    def __init__(self, timeline: Timeline, server: Server, *, work_ms: int) -> None:
        self.timeline = timeline
        self.work_us = work_ms * 1000
        self.host = Host("w0")
        self.client = Caller(self.host, timeline, server).client()
        self.consumers = Consumers(self.client, KEYS)
        self.counter = 0
        self._repeat("announce", self._announce)
        for number in range(CONCURRENCY):
            self._repeat(f"consume{number}", self._consume)

    def hurry(self) -> None:
        """Let what still comes be done in no time."""
        self.work_us = 1000

    def _repeat(self, name: str, step: Callable[[], int]) -> None:
        def run() -> None:
            while True:
                pause_us = AWAY_US
                with suppress(redis.exceptions.RedisError, StoreUnavailable):
                    pause_us = step()
                self.timeline.sleep(pause_us)

        self.timeline.spawn(f"{self.host.name}:{name}", self.host, run)

    def _announce(self) -> int:
        self.counter += 1
        self.consumers.announce(self.host.name, queues=[FAIR.decode()], concurrency=CONCURRENCY, counter=self.counter)
        return ANNOUNCED_EACH_MS * 1000

    def _consume(self) -> int:
        return self.work_us if self._pop() else LOOK_AGAIN_US

    def _pop(self) -> Any:
        """Take a message, if there is one; half of all calls are this one, which goes without what a client does around it."""
        pool = self.client.connection_pool
        connection = pool.get_connection()
        try:
            connection.send_command("RPOP", FAIR)
            return connection.read_response()
        finally:
            pool.release(connection)
