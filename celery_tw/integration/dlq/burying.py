"""Burying: a task that has failed for good becomes a dead letter, whatever has become of Redis.

A letter that cannot be stored is written whole to the log, as one line at level CRITICAL, from which ``tw dlq import`` brings it back. Two
signals of one death are one letter, for they have its id in common (``letter_ids.py``). A node of a DAG is replayed in its run.
"""

import logging
import os
from hashlib import blake2b
from typing import Any
from uuid import uuid4

from celery_tw import events
from celery_tw.clock import SystemClock
from celery_tw.core.death import Death
from celery_tw.errors import CeleryTWError, ImproperlyConfigured, StoreUnavailable
from celery_tw.integration.deferring.circuit_breaker import CircuitBreaker
from celery_tw.integration.dlq.letter_ids import letter_id_of
from celery_tw.integration.dlq.log_lines import log_line
from celery_tw.integration.runs.runner import runner_of
from celery_tw.stores.redis.envelope import read_envelope

logger = logging.getLogger(__name__)


class Burying:
    """What one process needs to bury tasks of *app*; connects when first used."""

    def __init__(self, app: Any) -> None:
        runner = runner_of(app)
        self.app = app
        self.settings = runner.settings
        self.runs = runner.runs
        self.letters = runner.letters
        self._clock = SystemClock()
        self._breaker = CircuitBreaker()

    def bury(self, message: bytes, death: Death) -> str:
        """Keep *message*, or else log it; return the id of its letter."""
        letter_id = _letter_id(message, death)
        try:
            verdict, _ = self._store(letter_id, message, death)
        except Exception as error:  # nothing else has the message any more
            logger.critical("%s", log_line(letter_id, message, death))
            logger.error("%s[%s] is a dead letter that could not be stored, and was logged: %s", death.task, death.task_id, error)
            return letter_id
        if verdict != "same":
            self._tell(letter_id, death)
        return letter_id

    def _store(self, letter_id: str, message: bytes, death: Death) -> tuple[str, int]:
        now_ms = self._clock.boot_ms()
        if not self._breaker.allows(now_ms):
            raise StoreUnavailable("Redis did not answer a moment ago")
        try:
            stored = self.letters.bury(letter_id, message, death, occasion=_occasion(death))
        except StoreUnavailable:
            self._breaker.fail(self._clock.boot_ms())
            raise
        self._breaker.succeed()
        return stored

    def _tell(self, letter_id: str, death: Death) -> None:
        logger.error("%s[%s] is a dead letter, %s (%s): %s", death.task, death.task_id, letter_id, death.reason, death.exception)
        events.task_dead_lettered.send(
            sender=self,
            letter_id=letter_id,
            task=death.task,
            task_id=death.task_id,
            queue=death.queue,
            reason=death.reason,
            exception=death.exception,
            fingerprint=death.fingerprint,
            generation=death.generation,
        )

    def forget(self, letter_id: str, *, latest_ms: int | None = None) -> None:
        """Take a letter back, unless it has died after *latest_ms*: its task goes on after all."""
        try:
            self.letters.drop([letter_id], counted="taken back", latest_ms=latest_ms)
        except CeleryTWError as error:
            logger.warning("the dead letter %s stays, though its task goes on: %s", letter_id, error)


def burying_of(app: Any) -> Burying | None:
    """Return what buries tasks of *app* in this process, made anew after a fork; None when the settings name no Redis to bury them in."""
    pid, burying = vars(app).get("_tw_burying", (0, None))
    if pid != os.getpid():
        try:
            burying = Burying(app)
        except ImproperlyConfigured as error:
            logger.warning("tasks that fail for good leave no dead letter: %s", error)
            burying = None
        app._tw_burying = (os.getpid(), burying)
    return burying


def _occasion(death: Death) -> str | None:
    """Return an occasion of its own for what is no task at all: it has no id by which two messages could be told apart."""
    return None if letter_id_of(death.task_id, death.mid) else uuid4().hex


def _letter_id(message: bytes, death: Death) -> str:
    """Return the id of a letter; what is no task at all is known by its body."""
    return letter_id_of(death.task_id, death.mid) or f"h-{blake2b(read_envelope(message).body, digest_size=12).hexdigest()}"
