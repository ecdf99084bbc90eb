"""Generic: publish through kombu to whatever transport the app has: another Redis, SQS, the memory of this process.

kombu tells that a message has been taken by returning. Where its transport can send a batch in one go (Redis, from kombu 5.7), a batch is
sent so. Such transports know no ``mandatory``: a message to an exchange without a queue is dropped unseen, as with Celery itself, which is
why the queues are declared first.
"""

from collections.abc import Callable, Sequence
from typing import Any

from kombu import exceptions
from kombu.connection import Connection

from celery_tw.errors import BrokerUnavailable
from celery_tw.integration.broker import has_redis_broker
from celery_tw.integration.messages.neutral import publish_arguments
from celery_tw.integration.publishing.declarations import Declarations
from celery_tw.scheduler.ports import Outcome
from celery_tw.stores.redis.envelope import Envelope

PATIENCE_S = 5.0

CONFIRMED = Outcome("confirmed")
UNKNOWN = Outcome("unknown")


class GenericPublisher:
    """Publishes for *app* on a connection of its own; *now_ms* tells the time, *go_on* whether to begin another message."""

    def __init__(self, app: Any, *, now_ms: Callable[[], int], go_on: Callable[[], bool] = lambda: True) -> None:
        self.app = app
        self.now_ms = now_ms
        self.go_on = go_on
        self._connection: Connection | None = None
        self._producer: Any = None
        self._declarations: Declarations | None = None

    def open(self) -> None:
        """Connect if that is needed; raises `BrokerUnavailable`."""
        if self._producer is not None:
            return
        connection = self.app.connection_for_write(transport_options=self._patience())
        self._connection = connection
        try:
            connection.ensure_connection(
                max_retries=len(connection.alt), interval_start=0, interval_step=0, reraise_as_library_errors=False
            )
            self._producer = self.app.amqp.Producer(connection.default_channel, auto_declare=False)
        except self._errors as error:
            self.close()
            raise BrokerUnavailable(f"the broker does not answer: {error}") from error
        self._declarations = Declarations(self.app, connection.channel, channel_errors=connection.channel_errors)

    def publish(self, envelopes: Sequence[Envelope], *, meanwhile: Callable[[], None] | None = None) -> list[Outcome]:
        """Publish *envelopes* in their order; return what became of each. There is no *meanwhile*: kombu waits for each."""
        outcomes = [UNKNOWN] * len(envelopes)
        errors: tuple[type[BaseException], ...] = (BrokerUnavailable, *self._errors)
        try:
            self.open()
            assert self._declarations is not None
            self._declarations.make(envelopes)
            if len(envelopes) > 1 and getattr(self._producer, "supports_batch_publish", False):
                return self._publish_at_once(envelopes)
            for position, envelope in enumerate(envelopes):
                outcomes[position] = self._publish_one(envelope)
                if not self.go_on():
                    break
        except errors:
            self.close()
        return outcomes

    def close(self) -> None:
        """Give up the connection."""
        connection, self._connection, self._producer, self._declarations = self._connection, None, None, None
        if connection is not None:
            connection.collect(socket_timeout=PATIENCE_S)

    @property
    def _errors(self) -> tuple[type[BaseException], ...]:
        connection = self._connection or self.app.connection_for_write()
        return (*connection.connection_errors, *connection.channel_errors, exceptions.OperationalError)

    def _patience(self) -> dict[str, Any]:
        """Return time-outs for a Redis, for which kombu has none of its own: it would wait for ever."""
        if not has_redis_broker(self.app):
            return {}
        given = self.app.conf.broker_transport_options
        return {name: given.get(name, PATIENCE_S) for name in ("socket_timeout", "socket_connect_timeout")}

    def _publish_one(self, envelope: Envelope) -> Outcome:
        try:
            self._producer.publish(**publish_arguments(envelope, now_ms=self.now_ms()))
        except self._errors:
            raise
        except Exception as error:  # whatever kombu or a client library may raise over a strange message: it concerns this one alone
            return Outcome("refused", f"{type(error).__name__}: {error}")
        return CONFIRMED

    def _publish_at_once(self, envelopes: Sequence[Envelope]) -> list[Outcome]:
        now_ms = self.now_ms()
        try:
            with self._producer.batch(max_size=len(envelopes)):
                for envelope in envelopes:
                    self._producer.publish(**publish_arguments(envelope, now_ms=now_ms))
        except exceptions.BatchPublishError:
            self.close()
            return [UNKNOWN] * len(envelopes)
        except self._errors:
            raise
        except Exception:  # one that cannot be sent discards the batch: each for itself, then
            return [self._publish_one(envelope) for envelope in envelopes]
        return [CONFIRMED] * len(envelopes)
