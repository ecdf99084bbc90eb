"""AMQP: publish to RabbitMQ with pipelined confirms, on a connection of our own.

Messages of a batch are written one after the other, many at a time (``cork.py``), and the broker's confirms are read as they come: waiting
for each before the next is written costs a round trip (and a write to disk) a message. Each message says ``mandatory``, so that one that
no queue takes comes back.

=====================================  ====================================================================================
the broker                             the outcome
=====================================  ====================================================================================
acks                                   confirmed
returns, then acks                     its queue is declared again and it is sent once more; then unroutable
nacks (a queue that is full)           refused
closes the channel, naming an error    whose fault that was is found out by sending what is unconfirmed one by one: refused
goes away                              unknown
is silent for `SILENT_LOOKS` looks     unknown, and the connection is given up
says it is blocked (memory, disk)      the batch under way waits; nothing new is begun
=====================================  ====================================================================================
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from kombu.transport.pyamqp import Transport

from celery_tw.errors import BrokerUnavailable
from celery_tw.failpoints import failpoint
from celery_tw.integration.messages.neutral import current_properties
from celery_tw.integration.publishing.arrivals import handle_what_came, widen
from celery_tw.integration.publishing.cork import Cork
from celery_tw.integration.publishing.declarations import Declarations
from celery_tw.integration.publishing.publish_frames import UNWRITABLE, publish_frames
from celery_tw.scheduler.ports import Outcome
from celery_tw.stores.redis.envelope import Envelope

LOOK_S = 0.5
LOOK_EACH = 100
SILENT_LOOKS = 60
WRITE_S = 5.0
CONNECTION_FORCED = 320

AMQP_ERRORS: tuple[type[BaseException], ...] = (*Transport.connection_errors, *Transport.channel_errors)

CONFIRMED = Outcome("confirmed")
UNKNOWN = Outcome("unknown")


def _nothing() -> None:
    return None


class AmqpPublisher:
    """Publishes for *app*; *now_ms* tells the time, and *go_on* is asked while it waits whether to wait on."""

    def __init__(self, app: Any, *, now_ms: Callable[[], int], go_on: Callable[[], bool] = lambda: True) -> None:
        self.app = app
        self.now_ms = now_ms
        self.go_on = go_on
        self._connection: Any = None
        self._channel: Any = None
        self._declarations: Declarations | None = None
        self._cork = Cork()
        self._flight = _Flight([])
        self._sent = 0
        self._blocked = ""

    def open(self) -> None:
        """Connect if that is needed; raises `BrokerUnavailable`."""
        try:
            if self._channel is not None:
                self._look(0)
        except AMQP_ERRORS:
            self._drop()
        if self._channel is None:
            self._connect()
        if self._blocked:
            raise BrokerUnavailable(f"the broker takes no messages for now: {self._blocked}")

    def publish(self, envelopes: Sequence[Envelope], *, meanwhile: Callable[[], None] = _nothing) -> list[Outcome]:
        """Publish *envelopes* in their order; return what became of each. *meanwhile* is called when all are written."""
        outcomes = self._publish(envelopes, meanwhile)
        lost = [position for position, outcome in enumerate(outcomes) if outcome.verdict == "unroutable"]
        if lost and self._declarations is not None:
            for position in lost:
                self._declarations.forget(envelopes[position])
            for position, outcome in zip(lost, self._publish([envelopes[position] for position in lost]), strict=True):
                outcomes[position] = outcome
        return outcomes

    def close(self) -> None:
        """Say good-bye to the broker."""
        connection = self._connection
        try:
            if connection is not None and not self._flight.pending:
                connection.close()
        except AMQP_ERRORS:
            pass
        finally:
            self._drop()

    # One connection

    def _drop(self) -> None:
        """Give up the connection; what is under way stays unknown."""
        connection, self._connection, self._channel, self._declarations = self._connection, None, None, None
        self._blocked = ""
        if connection is not None:
            connection.collect()

    def _connect(self) -> None:
        ours = {
            "confirm_publish": False,
            "frame_writer": self._cork.writer,
            "on_blocked": self._on_blocked,
            "on_unblocked": self._on_unblocked,
            "write_timeout": WRITE_S,
        }
        connection = self.app.connection_for_write(transport_options=ours)
        try:
            connection.ensure_connection(
                max_retries=len(connection.alt), interval_start=0, interval_step=0, reraise_as_library_errors=False
            )
            self._connection = connection.connection
            widen(self._connection.transport)
            self._declarations = Declarations(self.app, self._connection.channel, channel_errors=connection.channel_errors)
            self._open_channel()
        except AMQP_ERRORS as error:
            self._drop()
            raise BrokerUnavailable(f"the broker does not answer: {error}") from error

    def _open_channel(self) -> None:
        channel = self._connection.channel()
        channel.confirm_select()
        channel.events["basic_ack"].add(self._on_ack)
        channel.events["basic_nack"].add(self._on_nack)
        channel.events["basic_return"].add(self._on_return)
        self._channel, self._sent = channel, 0

    def _look(self, timeout_s: float) -> bool:
        """Read what the broker has sent, waiting for it for at most *timeout_s*; return whether anything came."""
        try:
            self._connection.drain_events(timeout=timeout_s)
        except TimeoutError:
            return False
        handle_what_came(self._connection)
        return True

    # One batch

    def _publish(self, envelopes: Sequence[Envelope], meanwhile: Callable[[], None] = _nothing) -> list[Outcome]:
        flight = self._flight = _Flight(envelopes)
        try:
            if self._channel is None:
                self.open()
            self._send(flight)
            failpoint("K3")
            meanwhile()
            self._await_confirms(flight)
        except BrokerUnavailable:
            return flight.outcomes
        except AMQP_ERRORS as error:
            self._drop()
            if _blames_a_message(error):
                self._find_the_one(flight, error)
        return flight.outcomes

    def _send(self, flight: "_Flight") -> None:
        assert self._declarations is not None
        self._declarations.make(flight.envelopes)
        now_ms = self.now_ms()
        with self._cork.held():
            for position, envelope in enumerate(flight.envelopes):
                if position and position % LOOK_EACH == 0:
                    self._cork.flush()
                    self._look(0)
                self._write(flight, position, envelope, now_ms)

    def _write(self, flight: "_Flight", position: int, envelope: Envelope, now_ms: int) -> None:
        """Write one message, as the channel's ``basic_publish`` does, which would look for what the broker says before each."""
        properties = {
            "content_type": envelope.content_type,
            "content_encoding": envelope.content_encoding,
            "application_headers": envelope.headers,
            **current_properties(envelope, now_ms=now_ms),
        }
        try:
            frames = publish_frames(
                envelope.body,
                properties,
                exchange=envelope.exchange,
                routing_key=envelope.routing_key,
                mandatory=envelope.expects_a_queue,
                channel_id=self._channel.channel_id,
                frame_max=self._connection.frame_max,
            )
        except UNWRITABLE as error:
            flight.outcomes[position] = Outcome("refused", f"AMQP has no words for it: {error!r}")
            return
        self._cork.write(frames)
        self._sent += 1
        flight.pending[self._sent] = position

    def _await_confirms(self, flight: "_Flight") -> None:
        silent = 0
        while flight.pending:
            silent = 0 if self._look(LOOK_S) or self._blocked else silent + 1
            if silent == SILENT_LOOKS or not self.go_on():
                self._drop()
                return

    def _find_the_one(self, flight: "_Flight", error: BaseException) -> None:
        """Learn which message the broker does not stand, by sending each unconfirmed one alone; it may have taken some of them already."""
        if len(flight.envelopes) == 1:
            flight.outcomes[0] = Outcome("refused", str(error))
            return
        for position in list(flight.pending.values()):
            (flight.outcomes[position],) = self._publish([flight.envelopes[position]])
            if flight.outcomes[position] is UNKNOWN:
                return

    # What the broker says

    def _on_ack(self, tag: int, multiple: bool) -> None:
        self._flight.settle(tag, multiple, CONFIRMED)

    def _on_nack(self, tag: int, multiple: bool) -> None:
        self._flight.settle(tag, multiple, Outcome("refused", "the broker did not take the message (nack); its queue may be full"))

    def _on_return(self, error: Exception, exchange: str, routing_key: str, message: Any) -> None:
        headers = message.headers or {}
        self._flight.returned.add((str(headers.get("id") or ""), str(headers.get("tw_mid") or "")))

    def _on_blocked(self, reason: str) -> None:
        self._blocked = reason or "it is blocked"

    def _on_unblocked(self) -> None:
        self._blocked = ""


@dataclass(slots=True)
class _Flight:
    """A batch on its way; *pending* is the place in it of each delivery tag that is not confirmed, *returned* what came back."""

    envelopes: Sequence[Envelope]
    pending: dict[int, int] = field(default_factory=dict)
    returned: set[tuple[str, str]] = field(default_factory=set)
    outcomes: list[Outcome] = field(init=False)

    def __post_init__(self) -> None:
        self.outcomes = [UNKNOWN] * len(self.envelopes)

    def settle(self, tag: int, multiple: bool, outcome: Outcome) -> None:
        """Take the broker's word on *tag*, or on all up to it."""
        tags = list(takewhile(lambda each: each <= tag, self.pending)) if multiple else [tag]
        for each in tags:
            position = self.pending.pop(each, None)
            if position is not None:
                self.outcomes[position] = self._unroutable(position) or outcome

    def _unroutable(self, position: int) -> Outcome | None:
        envelope = self.envelopes[position]
        if (envelope.task_id, envelope.mid) not in self.returned:
            return None
        return Outcome("unroutable", f"no queue takes what goes to {envelope.destination!r}")


def _blames_a_message(error: BaseException) -> bool:
    """Return whether the broker closed channel or connection for what was sent, and not because it goes away."""
    code = getattr(error, "reply_code", None) or 0
    return code > 0 and code != CONNECTION_FORCED
