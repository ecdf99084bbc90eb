"""Sends: what a process that sends a task asks for it beforehand: its number in an order, and a key that it alone has."""

from celery_tw.stores.redis.keys import ORDER_KEPT_MS, Keys
from celery_tw.stores.redis.scripts import RedisClient, script


class Sends:
    """The verbs of who sends, on one shard."""

    def __init__(self, client: RedisClient, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def draw_number(self, key: str, mid: str, *, before: str = "") -> None:
        """Give the send *mid* its place in the order *key*: that of the run *before*, or the last."""
        script("draw_number").run(self.client, [self.keys.guard("order", key)], [mid, before, ORDER_KEPT_MS])

    def claim_unique(self, key: str, task_id: str, *, kept_ms: int) -> str:
        """Take *key* for a task, unless another has it; return the id of the task that has it now."""
        reply: bytes = script("claim_unique").run(self.client, [self.keys.guard("unique", key)], [task_id, kept_ms, "claim"])
        return reply.decode()

    def give_back_unique(self, key: str, task_id: str) -> None:
        """Give *key* back if the task still has it."""
        script("claim_unique").run(self.client, [self.keys.guard("unique", key)], [task_id, 0, "give back"])
