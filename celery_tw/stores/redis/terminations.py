"""Terminations: which cancelled runs are to be ended by force, and when, in Redis ms, if they have not stopped by themselves."""

from collections.abc import Sequence

from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.redis.scripts import RedisClient, script, translated_errors


class Terminations:
    """The verbs, on one shard."""

    def __init__(self, client: RedisClient, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def plan(self, mid: str, *, after_ms: int) -> None:
        """Let the run *mid* be ended in *after_ms*; a plan made before is replaced."""
        script("plan_termination").run(self.client, [self.keys.terminations], [mid, after_ms])

    def due(self, now_ms: int, *, limit: int) -> list[str]:
        """Return up to *limit* runs whose time has come, the oldest first."""
        with translated_errors("ZRANGE"):
            found = self.client.zrange(self.keys.terminations, "-inf", now_ms, byscore=True, offset=0, num=limit)
        return [mid.decode() for mid in found]

    def forget(self, mids: Sequence[str]) -> None:
        """Strike out runs that have ended, or that nobody can end."""
        with translated_errors("ZREM"):
            self.client.zrem(self.keys.terminations, *mids)
