"""Journal: what an inventory tells the outside world: where each worker began and stopped, and every shelf that was counted."""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import redis

ENTRIES = "example_project:inventory"
COUNTED = "example_project:counted"


@dataclass(frozen=True, slots=True)
class Entry:
    """A worker (by its pid) *begins* or *ends* its part when *counted* shelves are done; *token* is its run's fencing number."""

    what: str
    pid: int
    counted: int
    token: int


class Journal:
    """Appends and reads entries."""

    def __init__(self, app: Any) -> None:
        self.app = app

    @cached_property
    def client(self) -> redis.Redis:
        """A client of the broker's Redis, made when it is first used: in a worker after the fork."""
        return self._connection.default_channel.client

    @cached_property
    def _connection(self) -> Any:
        return self.app.connection_for_write()

    def write(self, entry: Entry) -> None:
        """Append *entry*."""
        self.client.rpush(ENTRIES, json.dumps([entry.what, entry.pid, entry.counted, entry.token]))

    def entries(self) -> list[Entry]:
        """Return all entries, the oldest first."""
        return [Entry(*json.loads(raw)) for raw in self.client.lrange(ENTRIES, 0, -1)]

    def count_shelf(self) -> None:
        """Note that one more shelf was counted, by whoever it was."""
        self.client.incr(COUNTED)

    def shelves_counted(self) -> int:
        """Return how often a shelf was counted; one that was counted twice is in it twice."""
        return int(self.client.get(COUNTED) or 0)
