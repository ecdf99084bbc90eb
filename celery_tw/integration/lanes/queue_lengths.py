"""Queue lengths: how many messages wait in the broker's queues, counted by the leader.

Where the queues are lists in the timetable's own Redis their lengths are asked for in one go: of each queue one list for every step of its
priorities. Any other broker is asked through kombu, by declaring the queue passively, which creates nothing; messages that a worker has
taken and not acknowledged are not counted by either.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import redis
from kombu.connection import Connection

from celery_tw.errors import BrokerUnavailable
from celery_tw.integration.broker import key_prefix, shares_redis
from celery_tw.integration.messages.silent_channel import silent_channel
from celery_tw.scheduler.ports import QueueLengths
from celery_tw.stores.redis.scripts import translated_errors

PATIENCE_S = 2.0


def queue_lengths(app: Any, client: redis.Redis) -> QueueLengths:
    """Return what measures the queues of *app*; *client* is one of the timetable's Redis."""
    return ListLengths(app, client) if shares_redis(app) else DeclaredLengths(app)


class ListLengths:
    """Queues that are lists in the Redis of *client*."""

    def __init__(self, app: Any, client: redis.Redis) -> None:
        self.app = app
        self.client = client
        self._keys: dict[str, list[str]] = {}

    def measure(self, queues: Sequence[str]) -> dict[str, int]:
        """Return how many messages are in each of *queues*, without those with a key that is no list."""
        keys = [self._keys_of(queue) for queue in queues]
        with translated_errors("LLEN"), self.client.pipeline(transaction=False) as pipe:
            for key in (key for several in keys for key in several):
                pipe.llen(key)
            replies = iter(pipe.execute(raise_on_error=False))
            found = {queue: [next(replies) for _ in several] for queue, several in zip(queues, keys, strict=True)}
            for error in (reply for several in found.values() for reply in several if isinstance(reply, Exception)):
                if not str(error).startswith("WRONGTYPE"):
                    raise error
        return {queue: sum(several) for queue, several in found.items() if all(isinstance(reply, int) for reply in several)}

    def close(self) -> None:
        """Do nothing: the client is another's."""

    def _keys_of(self, queue: str) -> list[str]:
        if queue not in self._keys:
            with self.app.connection_for_write() as connection:
                channel = silent_channel(connection)
                prefix, steps = key_prefix(self.app), channel.priority_steps
                self._keys[queue] = [f"{prefix}{channel._q_for_pri(queue, step)}" for step in steps]
                channel.close()
        return self._keys[queue]


class DeclaredLengths:
    """Queues of any broker that kombu reaches, on a connection of its own."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self._connection: Connection | None = None
        self._channel: Any = None

    def measure(self, queues: Sequence[str]) -> dict[str, int]:
        """Return how many messages are in each of *queues*, 0 for one that there is not; raises `BrokerUnavailable`."""
        connection = self._connection or self.app.connection_for_write(connect_timeout=PATIENCE_S)
        self._connection = connection
        try:
            return {queue: self._measure(connection, queue) for queue in queues}
        except (*connection.connection_errors, *connection.channel_errors, OSError) as error:
            self.close()
            raise BrokerUnavailable(f"the broker does not tell how long its queues are: {error}") from error

    def _measure(self, connection: Connection, queue: str) -> int:
        if self._channel is None:
            self._channel = connection.channel()
        try:
            return int(self._channel.queue_declare(queue, passive=True).message_count)
        except connection.channel_errors:  # there is no such queue, and for saying so the channel was closed
            self._channel = None
            return 0

    def close(self) -> None:
        """Say good-bye to the broker."""
        connection, self._connection, self._channel = self._connection, None, None
        if connection is None:
            return
        with suppress(*connection.connection_errors, *connection.channel_errors, OSError):
            connection.close()
