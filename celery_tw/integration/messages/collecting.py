"""Collecting: what Celery would send to Redis now, as commands, without sending it.

Celery and kombu do all they ever do (signals, routing, serialising, task-sent events); only the last step differs. A
private channel of kombu's own class runs kombu's own delivery code, and where that would push onto a list or publish,
a recorder stands in for the client. What kombu asks of Redis to find its way still goes there: bindings are declared
once and looked up for topic exchanges.

Two things besides are diverted, for the thread that collects only. Some canvases ask the app for a producer instead
of using the one they were given: they get the collecting one. And nobody here waits for results, so the result
backend does not subscribe to each task sent.

For a broker that is not the timetable's Redis there is no way to find: each publish is recorded in neutral form (``neutral.py``).

The recorder leans on names inside kombu (``_put``, ``_put_fanout``, ``conn_or_acquire``), the same in all versions
from 5.5 to 5.7; the tests compare what is collected with what is really sent.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import local
from typing import Any
from weakref import WeakKeyDictionary

from kombu.exceptions import OperationalError
from kombu.transport.redis import GlobalKeyPrefixMixin
from redis.exceptions import ConnectionError, TimeoutError  # noqa: A004

from celery_tw.core.command import Command, Operation
from celery_tw.errors import StoreUnavailable
from celery_tw.integration.broker import connect, shares_redis
from celery_tw.integration.messages.identity_headers import to_be_numbered
from celery_tw.integration.messages.neutral import neutral_producer
from celery_tw.integration.messages.silent_channel import Silent, silent_channel

UNAVAILABLE = (ConnectionError, TimeoutError, OperationalError)


@dataclass(slots=True)
class Collected:
    """What one collection gave; *producer* takes the place of the app's own. Tasks that are *numbered* have a mark for their number."""

    producer: Any
    numbered: bool = True
    commands: list[Command] = field(default_factory=list)


@contextmanager
def collect(app: Any, *, numbered: bool = True) -> Iterator[Collected]:
    """Collect, from this thread, what *app* sends within the context, whether it uses ``collected.producer`` or not.

    What is *numbered* goes out through a leader, which gives each task its number, and through nobody else.
    Raises StoreUnavailable when the broker or the result backend had to be asked and did not answer.
    """
    here = _here(app)
    outer, here.collected = here.collected, Collected(here.producer, numbered)
    try:
        yield here.collected
    except UNAVAILABLE as error:
        raise StoreUnavailable(f"the broker did not answer while a message was rendered: {error}") from error
    finally:
        here.collected = outer


def collects(app: Any) -> bool:
    """Return whether this thread is collecting what *app* sends."""
    here = _apps.get(app)
    return here is not None and here.collected is not None


class _Here(local):
    """The private producer of one app in one thread, and what is being collected with it at the moment."""

    def __init__(self) -> None:
        self.pid: int | None = None
        self.producer: Any = None
        self.collected: Collected | None = None

    def headers(self, headers: Any) -> Any:
        """Return the *headers* of a message as the present collection wants them."""
        assert self.collected is not None
        return to_be_numbered(headers) if self.collected.numbered else headers

    def add(self, command: Command) -> None:
        """Take a command into the present collection."""
        assert self.collected is not None
        self.collected.commands.append(command)


_apps: WeakKeyDictionary[Any, _Here] = WeakKeyDictionary()


def _here(app: Any) -> _Here:
    here = _apps.get(app)
    if here is None:
        here = _apps.setdefault(app, _Here())
        _divert_producer(app, here)
    if here.pid != os.getpid():
        here.pid, here.collected = os.getpid(), None
        here.producer = _producer(app, here)
        _silence_backend(app.backend, here)
    return here


def _producer(app: Any, here: _Here) -> Any:
    if not shares_redis(app):
        return neutral_producer(app, here.add, here.headers)
    channel = silent_channel(app.connection_for_write(), mixin=_CollectingChannel)
    channel._get_pool()  # kombu settles the fanout prefix there
    channel._pool = connect(app).connection_pool
    channel.here = here
    return type("CollectingProducer", (_NeverRetrying, app.amqp.Producer), {"here": here})(channel, auto_declare=False)


class _NeverRetrying:
    """To be mixed in before the producer class: a retry would publish through another channel, for real."""

    here: _Here

    def publish(self, body: Any, **options: Any) -> Any:
        headers = self.here.headers(options.get("headers"))
        return super().publish(body, **{**options, "headers": headers, "retry": False})  # type: ignore[misc]

    def revive(self, channel: Any) -> None:
        self._channel = channel
        self.exchange = self.exchange(channel)  # type: ignore[has-type]


class _CollectingChannel(Silent):
    """To be mixed in before a kombu Redis channel class."""

    here: _Here
    _recorder: "_Recorder | None" = None

    def _put(self, queue: str, message: Any, **options: Any) -> None:
        with self._recording():
            super()._put(queue, message, **options)  # type: ignore[misc]

    def _put_fanout(self, exchange: str, message: Any, routing_key: str, **options: Any) -> None:
        with self._recording():
            super()._put_fanout(exchange, message, routing_key, **options)  # type: ignore[misc]

    def _size(self, queue: str) -> int:
        """Return 0 unseen: declaring a queue asks for its length, and nobody looks at the answer."""
        return 0

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        if self._recorder is not None:
            yield self._recorder
        else:
            with super().conn_or_acquire(client) as found:  # type: ignore[misc]
                yield found

    @contextmanager
    def _recording(self) -> Iterator[None]:
        assert self.here.collected is not None
        self._recorder = _Recorder(self.here.collected.commands, self.global_keyprefix)  # type: ignore[attr-defined]
        try:
            yield
        finally:
            self._recorder = None


class _Recorder:
    """Stands in for the client, and for a pipeline of it, while a message is delivered."""

    def __init__(self, commands: list[Command], prefix: str) -> None:
        self._commands = commands
        self._prefix = prefix

    def lpush(self, key: str, payload: str) -> None:
        self._add("lpush", key, payload)

    def publish(self, topic: str, payload: str) -> None:
        self._add("publish", topic, payload)

    def pexpire(self, key: str, expires_ms: int) -> None:
        self._add("pexpire", key, str(expires_ms))

    @contextmanager
    def pipeline(self) -> Iterator["_Recorder"]:
        yield self

    def execute(self) -> None:
        """Do nothing: all is recorded already."""

    def _add(self, operation: Operation, key: str, payload: str) -> None:
        if operation.upper() in GlobalKeyPrefixMixin.PREFIXED_SIMPLE_COMMANDS:
            key = self._prefix + key
        self._commands.append(Command(operation, key.encode(), payload.encode()))


def _divert_producer(app: Any, here: _Here) -> None:
    """Let the app, asked for a producer by a thread that collects, give the collecting one."""
    original = vars(app).get("producer_or_acquire")

    def producer_or_acquire(producer: Any = None) -> Any:
        if producer is None and here.collected is not None:
            producer = here.producer
        if original is not None:
            return original(producer)
        return type(app).producer_or_acquire(app, producer)

    app.producer_or_acquire = producer_or_acquire


def _silence_backend(backend: Any, here: _Here) -> None:
    """Let the backend take no notice of tasks that are sent by a thread that collects."""
    for name in ("on_task_call", "add_pending_result"):
        original = getattr(backend, name, None)
        if original is not None and not hasattr(original, "silenced_by"):
            setattr(backend, name, _silent_while_collecting(original, here))


def _silent_while_collecting(original: Any, here: _Here) -> Any:
    def silent(*args: Any, **options: Any) -> Any:
        return None if here.collected is not None else original(*args, **options)

    silent.silenced_by = here  # type: ignore[attr-defined]
    return silent
