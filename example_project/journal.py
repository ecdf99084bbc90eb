"""Journal: what an inventory tells the outside world: where each worker began and stopped, and every shelf that was counted."""

import json
from dataclasses import dataclass
from typing import Any

from example_project.brokers_redis import BrokersRedis

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
        self.redis = BrokersRedis(app)

    def write(self, entry: Entry) -> None:
        """Append *entry*."""
        self.redis.client.rpush(ENTRIES, json.dumps([entry.what, entry.pid, entry.counted, entry.token]))

    def entries(self) -> list[Entry]:
        """Return all entries, the oldest first."""
        return [Entry(*json.loads(raw)) for raw in self.redis.client.lrange(ENTRIES, 0, -1)]

    def count_shelf(self) -> None:
        """Note that one more shelf was counted, by whoever it was."""
        self.redis.client.incr(COUNTED)

    def shelves_counted(self) -> int:
        """Return how often a shelf was counted; one that was counted twice is in it twice."""
        return int(self.redis.client.get(COUNTED) or 0)
