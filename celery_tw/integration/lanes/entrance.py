"""Entrance: where a task that is sent to a fair queue learns whether it goes straight on or waits in its lane.

Straight on goes what finds room in the queue and its lanes empty; the rest waits, until the leader admits it. What cannot be asked about,
because Redis is away, or need not be, because nobody leads, goes straight on too, and is counted: nothing is lost, but it may overtake.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from celery_tw.integration.deferring.fallbacks import Fallbacks
from celery_tw.integration.deferring.task_storage import NotStored, PreparedTask, TaskStorage
from celery_tw.integration.messages.destinations import fair_lane
from celery_tw.stores.redis.lanes import Entering, Lanes

PAST_ITS_LANE = "went straight to its queue, past its lane"


class Entrance:
    """The entrance of one process. *fallbacks* counts what went past its lane."""

    def __init__(self, storage: TaskStorage, fallbacks: Fallbacks) -> None:
        self.storage = storage
        self.fallbacks = fallbacks
        self._lanes = Lanes(storage.client, storage.keys, clock=storage.clock, lease_ms=storage.settings.leader_lease_ms)

    def waits(self, body: Any, options: Mapping[str, Any]) -> bool:
        """Offer a task, given as its publish arguments, to its lane; return False when it is to be published.

        Raises `EncodeError` when its arguments cannot be serialised; nothing is stored then.
        """
        fair = fair_lane(options, fair=self.storage.settings.fair_queues)
        if not fair:
            return False
        try:
            status = self.storage.store(body, options, partial(self._enter, queue=fair["queue"], lane=fair["lane"]))
            if status == "leaderless":
                raise NotStored("leaderless", "no scheduler leads")
        except NotStored as refusal:
            now_ms = self.storage.clock.boot_ms()
            self.fallbacks.record(refusal.reason, task=options["headers"]["task"], why=refusal, now_ms=now_ms)
            return False
        return status != "straight"

    def _enter(self, task: PreparedTask, entry_id: int, *, queue: str, lane: str) -> tuple[int, str]:
        entering = Entering(entry_id=entry_id, mid=task.mid, task_id=task.task_id, queue=queue, lane=lane, rest=task.rest)
        return self._lanes.enter(entering)
