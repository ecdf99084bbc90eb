"""Static names: which entries are the settings' own, and when the process started that stands behind each.

The newest process has the last word: what an older one says of a name is not heard.
"""

from collections.abc import Sequence

from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.redis.scripts import RedisClient, script, translated_errors


class StaticNames:
    """The names of settings entries on one shard."""

    def __init__(self, client: RedisClient, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def stored(self) -> dict[str, int]:
        """Return the settings entries in the timetable, each with the start ms of the process that wrote it."""
        with translated_errors("HGETALL"):
            stored = self.client.hgetall(self.keys.static)
        return {name.decode(): int(start) for name, start in stored.items()}

    def among(self, names: Sequence[str]) -> list[str]:
        """Return those of *names* that are settings entries."""
        with translated_errors("HMGET"):
            if not self.client.hlen(self.keys.static):
                return []
            starts = self.client.hmget(self.keys.static, list(names))
        return [name for name, start in zip(names, starts, strict=True) if start is not None]

    def claim(self, names: Sequence[str], *, process_start_ms: int) -> None:
        """Note that a process started at *process_start_ms* stands behind the settings entries *names*, where no newer one does."""
        script("claim_static").run(self.client, [self.keys.static, self.keys.names], [process_start_ms, "claim", *names])

    def disclaim(self, name: str, *, process_start_ms: int) -> None:
        """Note that no settings entry is called *name* any more, unless a newer process says otherwise."""
        script("claim_static").run(self.client, [self.keys.static, self.keys.names], [process_start_ms, "disclaim", name])
