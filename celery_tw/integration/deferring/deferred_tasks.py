"""Deferred tasks: stores what Celery was about to publish as a one-time task of the timetable.

The message is rendered by kombu into a collector, in the process that calls, and waits as it is. ``eta`` is empty in it, because the
worker is to run it when it comes; how long a queue may keep it (AMQP's ``expiration``) is left to the release. It fires however late.

Whatever stands in the way, the task goes out with Celery's own ETA instead: a retry that could not be sent would be lost. If it cannot be
told whether the store took it, both may run; they have the same mid.

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
from celery_tw.integration.deferring.fallbacks import Fallbacks
from celery_tw.integration.messages.collecting import collect
from celery_tw.integration.messages.identity_headers import MID
from celery_tw.integration.safeguards import check_namespace
from celery_tw.stores.redis.codec import OneTime
from celery_tw.stores.redis.deferring import Deferred, Deferring, EntryIds
from celery_tw.stores.redis.election import Election
from celery_tw.stores.redis.scripts import asked_twice
from celery_tw.stores.redis.timetable import Timetable

logger = logging.getLogger(__name__)

TIMEOUT_S = 0.5
"""What a call costs that finds Redis silent."""

TRY_S = TIMEOUT_S / 2

LARGEST_MESSAGE = 256 * 1024
TURNED_AWAY = "Redis did not answer a moment ago"


class NotDeferred(Exception):
    """A task goes out with Celery's own ETA: *reason* is the word it is counted under, *why* the sentence."""

    def __init__(self, reason: str, why: object) -> None:
        super().__init__(why)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A task ready to be stored: *rest* is its packed record from the line after the moment of storing."""

    mid: str
    task_id: str
    rest: bytes


class DeferredTasks:
    """What one process needs to store its tasks; raises ImproperlyConfigured when the settings are wrong, and connects to nothing."""

    def __init__(self, app: Any, fallbacks: Fallbacks) -> None:
        parts = Connected(app)
        self.app = app
        self.settings = parts.settings
        self.clock = parts.clock
        self.redis_time = parts.redis_time
        self.fallbacks = fallbacks
        client = broker.connect(app, timeout_s=TRY_S)
        grace_ms = None if self.settings.defer_eta == "always" else self.settings.leaderless_grace_ms
        self._store = Deferring(client, parts.keys, grace_ms=grace_ms, clock=parts.clock)
        self._election = Election(client, parts.keys)
        self._timetable = Timetable(client, parts.keys)
        self._ids = EntryIds(self._timetable)
        self._breaker = CircuitBreaker()
        self._fingerprint = broker.fingerprint(app)
        self._checked = False

    def now_ms(self) -> int:
        """Return Redis time as far as this process knows it; at first it is asked for, because a wall clock may be wrong."""
        if not self.redis_time.known:
            self._learn_time()
        return self.redis_time.now_ms()

    def _learn_time(self) -> None:
        if not self._breaker.allows(self.clock.boot_ms()):
            return
        try:
            self.redis_time.observe(asked_twice(self._timetable.now_ms))
            self._breaker.succeed()
        except StoreUnavailable:
            self._breaker.fail(self.clock.boot_ms())
        except (StoreRefused, RedisError) as error:
            logger.warning("the first countdown counts by this machine's clock, for Redis does not tell its time: %s", error)
            self.redis_time.observe(self.clock.wall_ms())
            self._breaker.succeed()

    def store(self, body: Any, options: Mapping[str, Any], *, due_ms: int) -> bool:
        """Store a task, given as its publish arguments, until *due_ms*; return False when it has to be published instead.

        Raises `EncodeError` when its arguments cannot be serialised; nothing is stored then.
        """
        if not self.settings.defer_exclude_queues.isdisjoint(_destinations(options)):
            return False
        try:
            self._store_or_refuse(body, options, due_ms)
        except NotDeferred as refusal:
            self.fallbacks.record(refusal.reason, task=options["headers"]["task"], why=refusal, now_ms=self.clock.boot_ms())
            return False
        return True

    def _store_or_refuse(self, body: Any, options: Mapping[str, Any], due_ms: int) -> None:
        if not self._breaker.would_allow(self.clock.boot_ms()):
            raise NotDeferred("unavailable", TURNED_AWAY)
        try:
            task = self._prepare(body, options)
            if not self._breaker.allows(self.clock.boot_ms()):
                raise NotDeferred("unavailable", TURNED_AWAY)
            self._reach()
            self._put(task, due_ms)
        except StoreUnavailable as error:
            self._breaker.fail(self.clock.boot_ms())
            raise NotDeferred("unavailable", error) from error
        except StoreRefused as error:
            self._breaker.succeed()
            raise NotDeferred("refused", error) from error
        except RedisError as error:
            raise NotDeferred("refused", error) from error
        except (CeleryTWError, ImproperlyConfigured) as error:
            raise NotDeferred("misconfigured", error) from error

    def _prepare(self, body: Any, options: Mapping[str, Any]) -> _Prepared:
        """Return the task ready to be stored; what cannot be, Celery's own publish is to decide about, and to raise if it must."""
        try:
            command = self._render(body, options)
            return self._packed(command, options["headers"])
        except (EncodeError, StoreUnavailable, NotDeferred, SoftTimeLimitExceeded):
            raise
        except Exception as error:
            raise NotDeferred("unrendered", f"its message could not be prepared: {error!r}") from error

    def _render(self, body: Any, options: Mapping[str, Any]) -> Command:
        """Return what puts the message into its queue, on the Redis of the timetable or by way of the outbox."""
        with collect(self.app) as collected:
            collected.producer.publish(body, **{**options, "expiration": None})
        if len(collected.commands) != 1 or collected.commands[0].operation not in ("lpush", "claim"):
            raise NotDeferred("not one message", "it does not go to one queue as one message")
        (command,) = collected.commands
        if len(command.payload) > LARGEST_MESSAGE:
            raise NotDeferred("too large", f"its message has {len(command.payload):,} bytes; at most {LARGEST_MESSAGE:,} are stored")
        return command

    def _packed(self, command: Command, headers: Mapping[str, Any]) -> _Prepared:
        task_id = str(headers["id"])
        if "\n" in task_id or b"\n" in command.key:
            raise NotDeferred("not one message", "its task id or its queue has more than one line")
        record = OneTime(
            mid=headers[MID],
            name="",
            stored_ms=0,
            last_ms=None,
            fingerprint=self._fingerprint,
            queue_key=command.key.decode(),
            extra={"task": headers["task"]},
            message=command.payload,
            task_id=task_id,
        )
        return _Prepared(record.mid, task_id, record.pack_rest())

    def _reach(self) -> None:
        """Make sure of a connection, and once of the namespace."""
        asked_twice(self._store.reach)
        if not self._checked:
            asked_twice(partial(check_namespace, self.app, self._election))
            self._checked = True

    def _put(self, task: _Prepared, due_ms: int) -> None:
        deferred = partial(Deferred, mid=task.mid, task_id=task.task_id, due_ms=due_ms, rest=task.rest)
        now_ms, status = self._defer(deferred)
        if status == "taken":
            self._ids.discard()
            now_ms, status = self._defer(deferred)
        self._breaker.succeed()
        self.redis_time.observe(now_ms)
        if status == "leaderless":
            raise NotDeferred("leaderless", f"no scheduler has led for {self.settings.leaderless_grace_ms / 1000:g} s")
        if status == "taken":
            raise StoreRefused("fresh ids belong to other tasks already: the data in Redis is older than this process")

    def _defer(self, deferred: Callable[..., Deferred]) -> tuple[int, str]:
        task = deferred(entry_id=asked_twice(self._ids.take))
        try:
            return self._store.defer(task)
        except StoreUnavailable as error:
            self._breaker.fail(self.clock.boot_ms())
            raise NotDeferred("in doubt", f"{error}. It may wait in the timetable as well: both copies have the mid {task.mid}") from error


def _destinations(options: Mapping[str, Any]) -> set[str]:
    """Return the names of the queues that a publish is meant for, as far as it says."""
    declared = {getattr(entity, "name", "") for entity in options.get("declare") or ()}
    return declared if options.get("exchange") else declared | {options.get("routing_key") or ""}
