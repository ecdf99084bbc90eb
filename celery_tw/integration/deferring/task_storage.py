"""Task storage: what Celery was about to publish, kept in Redis by the process that calls.

The message is rendered by kombu into a collector and becomes the record of a one-time task; where it waits (until it is due, or in its
lane) is for the caller to say. Whatever stands in the way is told by the word it is counted under, and then the message is to be
published: a retry that could not be sent would be lost. If it cannot be told whether the store took it, both may run, and both have one
mid.

Each question is asked a second time when its answer is lost, which costs nothing when a connection broke. A Redis that hangs is given up
after `TIMEOUT_S`, both tries together, and not asked again for a while (`CircuitBreaker`).
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded
from kombu.exceptions import EncodeError
from redis.exceptions import RedisError

from celery_tw.core.command import Command
from celery_tw.errors import CeleryTWError, ImproperlyConfigured, StoreRefused, StoreUnavailable
from celery_tw.integration import broker
from celery_tw.integration.connected import Connected
from celery_tw.integration.deferring.circuit_breaker import CircuitBreaker
from celery_tw.integration.messages.collecting import collect
from celery_tw.integration.messages.destinations import fair_lane
from celery_tw.integration.messages.identity_headers import MID
from celery_tw.integration.safeguards import check_namespace
from celery_tw.stores.redis.codec import OneTime
from celery_tw.stores.redis.deferring import Deferring, EntryIds
from celery_tw.stores.redis.election import Election
from celery_tw.stores.redis.scripts import asked_twice
from celery_tw.stores.redis.timetable import Timetable

logger = logging.getLogger(__name__)

TIMEOUT_S = 0.5
"""What a call costs that finds Redis silent."""

TRY_S = TIMEOUT_S / 2

LARGEST_MESSAGE = 256 * 1024
TURNED_AWAY = "Redis did not answer a moment ago"


class NotStored(Exception):
    """A message is to be published instead: *reason* is the word it is counted under, *why* the sentence."""

    def __init__(self, reason: str, why: object) -> None:
        super().__init__(why)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class PreparedTask:
    """A task ready to be stored: *rest* is its packed record from the line after the moment of storing."""

    mid: str
    task_id: str
    rest: bytes


Place = Callable[[PreparedTask, int], tuple[int, str]]
"""Stores a task under an id; returns Redis time in ms and a status, ``taken`` when the id is another task's."""


class TaskStorage:
    """What one process needs to store tasks; raises ImproperlyConfigured when the settings are wrong, and connects to nothing."""

    def __init__(self, app: Any) -> None:
        parts = Connected(app)
        self.app = app
        self.settings = parts.settings
        self.keys = parts.keys
        self.clock = parts.clock
        self.redis_time = parts.redis_time
        self.client = broker.connect(app, timeout_s=TRY_S)
        self.breaker = CircuitBreaker()
        grace_ms = None if self.settings.defer_eta == "always" else self.settings.leaderless_grace_ms
        self.deferring = Deferring(self.client, parts.keys, grace_ms=grace_ms, clock=parts.clock)
        self._election = Election(self.client, parts.keys)
        self._timetable = Timetable(self.client, parts.keys)
        self._ids = EntryIds(self._timetable)
        self._fingerprint = broker.fingerprint(app)
        self._checked = False

    def now_ms(self) -> int:
        """Return Redis time as far as this process knows it; at first it is asked for, because a wall clock may be wrong."""
        if not self.redis_time.known:
            self._learn_time()
        return self.redis_time.now_ms()

    def _learn_time(self) -> None:
        if not self.breaker.allows(self.clock.boot_ms()):
            return
        try:
            self.redis_time.observe(asked_twice(self._timetable.now_ms))
            self.breaker.succeed()
        except StoreUnavailable:
            self.breaker.fail(self.clock.boot_ms())
        except (StoreRefused, RedisError) as error:
            logger.warning("the first countdown counts by this machine's clock, for Redis does not tell its time: %s", error)
            self.redis_time.observe(self.clock.wall_ms())
            self.breaker.succeed()

    def store(self, body: Any, options: Mapping[str, Any], place: Place) -> str:
        """Have *place* store a task, given as its publish arguments, under a fresh id; return the status that it answers.

        Raises `NotStored` when the task has to be published instead, and `EncodeError` when its arguments cannot be serialised.
        """
        if not self.breaker.would_allow(self.clock.boot_ms()):
            raise NotStored("unavailable", TURNED_AWAY)
        try:
            task = self._prepare(body, options)
            if not self.breaker.allows(self.clock.boot_ms()):
                raise NotStored("unavailable", TURNED_AWAY)
            self._reach()
            return self._put(task, place)
        except StoreUnavailable as error:
            self.breaker.fail(self.clock.boot_ms())
            raise NotStored("unavailable", error) from error
        except StoreRefused as error:
            self.breaker.succeed()
            raise NotStored("refused", error) from error
        except RedisError as error:
            raise NotStored("refused", error) from error
        except (CeleryTWError, ImproperlyConfigured) as error:
            raise NotStored("misconfigured", error) from error

    def _prepare(self, body: Any, options: Mapping[str, Any]) -> PreparedTask:
        """Return the task ready to be stored; what cannot be, Celery's own publish is to decide about, and to raise if it must."""
        try:
            command = self._render(body, options)
            return self._packed(command, options)
        except (EncodeError, StoreUnavailable, NotStored, SoftTimeLimitExceeded):
            raise
        except Exception as error:
            raise NotStored("unrendered", f"its message could not be prepared: {error!r}") from error

    def _render(self, body: Any, options: Mapping[str, Any]) -> Command:
        """Return what puts the message into its queue, on the Redis of the timetable or by way of the outbox."""
        with collect(self.app) as collected:
            collected.producer.publish(body, **{**options, "expiration": None})
        if len(collected.commands) != 1 or collected.commands[0].operation not in ("lpush", "claim"):
            raise NotStored("not one message", "it does not go to one queue as one message")
        (command,) = collected.commands
        if len(command.payload) > LARGEST_MESSAGE:
            raise NotStored("too large", f"its message has {len(command.payload):,} bytes; at most {LARGEST_MESSAGE:,} are stored")
        return command

    def _packed(self, command: Command, options: Mapping[str, Any]) -> PreparedTask:
        headers = options["headers"]
        task_id = str(headers["id"])
        if "\n" in task_id or b"\n" in command.key:
            raise NotStored("not one message", "its task id or its queue has more than one line")
        record = OneTime(
            mid=headers[MID],
            name="",
            stored_ms=0,
            last_ms=None,
            fingerprint=self._fingerprint,
            queue_key=command.key.decode(),
            extra={"task": headers["task"], **fair_lane(options, fair=self.settings.fair_queues)},
            message=command.payload,
            task_id=task_id,
        )
        return PreparedTask(record.mid, task_id, record.pack_rest())

    def _reach(self) -> None:
        """Make sure of a connection, and once of the namespace; what fails here has certainly stored nothing."""
        asked_twice(self.deferring.reach)
        if not self._checked:
            asked_twice(partial(check_namespace, self.app, self._election))
            self._checked = True

    def _put(self, task: PreparedTask, place: Place) -> str:
        now_ms, status = self._place(task, place)
        if status == "taken":
            self._ids.discard()
            now_ms, status = self._place(task, place)
        self.breaker.succeed()
        self.redis_time.observe(now_ms)
        if status == "taken":
            raise StoreRefused("fresh ids belong to other tasks already: the data in Redis is older than this process")
        return status

    def _place(self, task: PreparedTask, place: Place) -> tuple[int, str]:
        entry_id = asked_twice(self._ids.take)
        try:
            return place(task, entry_id)
        except StoreUnavailable as error:
            self.breaker.fail(self.clock.boot_ms())
            raise NotStored("in doubt", f"{error}. It may wait in the timetable as well: both copies have the mid {task.mid}") from error
