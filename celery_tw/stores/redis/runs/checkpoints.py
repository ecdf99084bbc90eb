"""Checkpoints: the last state that a long task has saved, from which it goes on wherever its worker dies."""

from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.redis.scripts import RedisClient, script, translated_errors


class Checkpoints:
    """The checkpoints of one shard; saving one renews the lease of its run, for *lease_ms*."""

    def __init__(self, client: RedisClient, keys: Keys, *, lease_ms: int) -> None:
        self.client = client
        self.keys = keys
        self.lease_ms = lease_ms

    def save(self, mid: str, token: str, *, task_id: str, state: bytes, kept_ms: int, processes: tuple[str, str]) -> str:
        """Keep the state of a run, renew it, and return what `beat` does."""
        shard = self.keys
        keys: list[str | bytes] = [shard.run(mid), shard.lease(mid), shard.running, shard.checkpoint(task_id), *map(shard.drain, processes)]
        reply: bytes = script("save_checkpoint").run(self.client, keys, [token, mid, state, kept_ms, self.lease_ms])
        return reply.decode()

    def load(self, task_id: str) -> bytes | None:
        """Return the last state that was saved for a task, or None."""
        with translated_errors("GET"):
            state: bytes | None = self.client.get(self.keys.checkpoint(task_id))
            return state

    def clear(self, mid: str, token: str, *, task_id: str) -> bool:
        """Forget the state of a task; return False when the run is another's by now."""
        reply: bytes = script("clear_checkpoint").run(self.client, [self.keys.run(mid), self.keys.checkpoint(task_id)], [token])
        return reply == b"ok"
