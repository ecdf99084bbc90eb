"""Ledger: a list in Redis of every task that ran, in the order in which they started."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from example_project.brokers_redis import BrokersRedis

KEY = "example_project:ledger"


@dataclass(frozen=True, slots=True)
class Line:
    """One start of a task; *slot_ms* is None when it was not fired for a slot."""

    entry: str
    slot_ms: int | None
    started_ms: int
    task_id: str


class Ledger:
    """Appends and reads lines."""

    def __init__(self, app: Any) -> None:
        self.redis = BrokersRedis(app)

    def write(self, entry: str, slot: datetime | None, *, task_id: str) -> None:
        """Append that a task for *entry* and *slot* starts now."""
        slot_ms = None if slot is None else round(slot.timestamp() * 1000)
        self.redis.client.rpush(KEY, json.dumps([entry, slot_ms, time.time_ns() // 1_000_000, task_id]))

    def read(self, first: int) -> Iterator[Line]:
        """Return the lines from number *first* on."""
        return (Line(*json.loads(raw)) for raw in self.redis.client.lrange(KEY, first, -1))
