"""Deferred tasks: stores what Celery was about to publish as a one-time task of the timetable.

The message waits as it was rendered (``task_storage.py``). ``eta`` is empty in it, because the worker is to run it when it comes; how long
a queue may keep it (AMQP's ``expiration``) is left to the release. It fires however late.

Whatever stands in the way, the task goes out with Celery's own ETA instead, and is counted.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from celery_tw.integration.deferring.fallbacks import Fallbacks
from celery_tw.integration.deferring.task_storage import NotStored, PreparedTask, TaskStorage
from celery_tw.integration.messages.destinations import destinations
from celery_tw.stores.redis.deferring import Deferred


class DeferredTasks:
    """The tasks with an ETA of one process."""

    def __init__(self, storage: TaskStorage, fallbacks: Fallbacks) -> None:
        self.storage = storage
        self.settings = storage.settings
        self.fallbacks = fallbacks

    def now_ms(self) -> int:
        """Return Redis time as far as this process knows it."""
        return self.storage.now_ms()

    def store(self, body: Any, options: Mapping[str, Any], *, due_ms: int) -> bool:
        """Store a task, given as its publish arguments, until *due_ms*; return False when it has to be published instead.

        Raises `EncodeError` when its arguments cannot be serialised; nothing is stored then.
        """
        if not self.settings.defer_exclude_queues.isdisjoint(destinations(options)):
            return False
        try:
            if self.storage.store(body, options, partial(self._defer, due_ms=due_ms)) == "leaderless":
                raise NotStored("leaderless", f"no scheduler has led for {self.settings.leaderless_grace_ms / 1000:g} s")
        except NotStored as refusal:
            now_ms = self.storage.clock.boot_ms()
            self.fallbacks.record(refusal.reason, task=options["headers"]["task"], why=refusal, now_ms=now_ms)
            return False
        return True

    def _defer(self, task: PreparedTask, entry_id: int, *, due_ms: int) -> tuple[int, str]:
        deferred = Deferred(entry_id=entry_id, mid=task.mid, task_id=task.task_id, due_ms=due_ms, rest=task.rest)
        return self.storage.deferring.defer(deferred)
