"""The broker's Redis, in which the example keeps what it checks itself against."""

from functools import cached_property
from typing import Any

import redis


class BrokersRedis:
    """A connection of the process's own."""

    def __init__(self, app: Any) -> None:
        self.app = app

    @cached_property
    def client(self) -> redis.Redis:
        """A client, made when it is first used: in a worker after the fork."""
        return self._connection.default_channel.client

    @cached_property
    def _connection(self) -> Any:
        return self.app.connection_for_write()
