"""Announcing: a worker says which queues it consumes and how many tasks it runs at once, so that the leader knows how full to keep them.

A thread of its own does, every `EACH_S`, so a Redis that hangs costs the worker nothing. What it says follows queues that are added or
cancelled at run time and a pool that grows or shrinks. A worker without it, or one that cannot reach Redis, works as ever.
"""

import logging
from itertools import count
from threading import Event, Thread
from typing import Any

from celery import bootsteps

from celery_tw.errors import CeleryTWError, ImproperlyConfigured
from celery_tw.integration.connected import Connected
from celery_tw.scheduler.measuring import ANNOUNCED_EACH_MS
from celery_tw.stores.redis.consumers import Consumers

logger = logging.getLogger(__name__)

EACH_S = ANNOUNCED_EACH_MS / 1000


class AnnounceConsumer(bootsteps.StartStopStep):
    """Announces a worker for as long as it consumes, in an app that has fair queues."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._ended: Event | None = None

    def include_if(self, parent: Any) -> bool:
        return bool(parent.app.conf.get("tw_fair_queues"))

    def start(self, parent: Any) -> None:
        """Begin to announce; also after a lost connection to the broker."""
        self.stop(parent)
        self._ended = Event()
        Thread(target=_announce, args=(parent, self._ended), name="tw-announce", daemon=True).start()

    def stop(self, parent: Any) -> None:
        """End it; the thread withdraws what it said."""
        if self._ended is not None:
            self._ended.set()
            self._ended = None

    shutdown = stop


def _announce(consumer: Any, ended: Event) -> None:
    """Announce *consumer* until *ended* is set."""
    try:
        parts = Connected(consumer.app)
        consumers = Consumers(parts.client, parts.keys)
    except ImproperlyConfigured as error:
        logger.warning("the worker cannot announce what it consumes: %s", error)
        return
    away = False
    for counter in count(1):
        try:
            consumers.announce(consumer.hostname, queues=_queues(consumer), concurrency=_concurrency(consumer), counter=counter)
            away = False
        except CeleryTWError as error:
            if not away:
                logger.warning("the worker cannot announce what it consumes, and tries again: %s", error)
            away = True
        if ended.wait(EACH_S):
            break
    _withdraw(consumers, consumer.hostname)


def _withdraw(consumers: Consumers, hostname: str) -> None:
    try:
        consumers.withdraw(hostname)
    except CeleryTWError as error:
        logger.debug("the worker is struck out when it has been silent for a while: %s", error)


def _queues(consumer: Any) -> list[str]:
    return [str(queue.name) for queue in tuple(consumer.task_consumer.queues)] if consumer.task_consumer else []


def _concurrency(consumer: Any) -> int:
    return int(getattr(consumer.pool, "num_processes", 0) or consumer.initial_prefetch_count or 1)
