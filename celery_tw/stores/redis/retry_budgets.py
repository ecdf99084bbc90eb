"""Retry budgets: how many retries the tasks of a name may have in a time, over all workers.

A bucket of tokens for each name of a task, full at first and filled again evenly. Who finds none left is told when there will be one, and
has that one: a retry is delayed by a spent budget and never lost.
"""

from uuid import uuid4

from celery_tw.stores.redis.keys import ANSWER_KEPT_MS, Keys
from celery_tw.stores.redis.scripts import RedisClient, asked_twice, script


class RetryBudgets:
    """The verbs, on one shard."""

    def __init__(self, client: RedisClient, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def take(self, task: str, *, tokens: int, per_ms: int) -> int:
        """Take one of the *tokens* that the tasks named *task* have in *per_ms*; return in how many ms it is there, 0 for now."""
        keys: list[str | bytes] = [self.keys.retry_budget(task), self.keys.answer(uuid4().hex)]
        return int(asked_twice(lambda: script("take_retry").run(self.client, keys, [tokens, per_ms, ANSWER_KEPT_MS])))
