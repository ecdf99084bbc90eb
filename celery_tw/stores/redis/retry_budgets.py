"""Retry budgets: how many retries the tasks of a name may have in a time, over all workers.

A bucket of tokens for each name of a task, full at first and filled again evenly. Who finds none left is told when there will be one, and
has that one: a retry is delayed by a spent budget and never lost. Who cannot wait so long leaves it to others.
"""

from uuid import uuid4

from celery_tw.stores.redis.keys import ANSWER_KEPT_MS, Keys
from celery_tw.stores.redis.scripts import Argument, RedisClient, asked_twice, script


class RetryBudgets:
    """The verbs, on one shard."""

    def __init__(self, client: RedisClient, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def take(self, task: str, *, tokens: int, per_ms: int, longest_ms: int | None = None) -> int | None:
        """Take one of the *tokens* that the tasks named *task* have in *per_ms*; return in how many ms it is there, 0 for now.

        None when that is in more than *longest_ms*: then none is taken.
        """
        keys: list[str | bytes] = [self.keys.retry_budget(task), self.keys.answer(uuid4().hex)]
        args: list[Argument] = [tokens, per_ms, ANSWER_KEPT_MS, "" if longest_ms is None else longest_ms]
        wait_ms = int(asked_twice(lambda: script("take_retry").run(self.client, keys, args)))
        return None if wait_ms < 0 else wait_ms
