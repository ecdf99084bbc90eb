"""Consumers: the workers that have said which queues they consume, and how many tasks each runs at once."""

import json
from collections.abc import Sequence
from typing import Any

from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.redis.scripts import RedisClient, translated_errors


class Consumers:
    """The announcements of one shard: hostname → ``queues``, ``concurrency``, and a ``counter`` that moves while the worker lives."""

    def __init__(self, client: RedisClient, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def announce(self, hostname: str, *, queues: Sequence[str], concurrency: int, counter: int) -> None:
        """Say that the worker *hostname* lives, and what it does."""
        line = {"queues": sorted(queues), "concurrency": concurrency, "counter": counter}
        with translated_errors("HSET"):
            self.client.hset(self.keys.consumers, hostname, json.dumps(line))

    def withdraw(self, *hostnames: str) -> None:
        """Strike workers out that have gone."""
        if hostnames:
            with translated_errors("HDEL"):
                self.client.hdel(self.keys.consumers, *hostnames)

    def read(self) -> dict[str, dict[str, Any]]:
        """Return what each worker has said; a line that cannot be read is left out."""
        with translated_errors("HGETALL"):
            stored = self.client.hgetall(self.keys.consumers)
        lines = {hostname.decode(errors="replace"): _line(raw) for hostname, raw in stored.items()}
        return {hostname: line for hostname, line in lines.items() if line is not None}


def _line(raw: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(raw)
        return {"queues": [*map(str, line["queues"])], "concurrency": int(line["concurrency"]), "counter": int(line["counter"])}
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
