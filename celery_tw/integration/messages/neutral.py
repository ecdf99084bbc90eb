"""Neutral: between kombu's publish arguments and the neutral envelope, both ways, whatever the transport.

``neutral_producer`` makes a producer that records each publish as an envelope instead of sending it. It serialises, compresses and checks
as kombu does, and connects to nothing. ``publish_arguments`` gives back what ``Producer.publish`` needs to send the message for real.

How long a message may wait in a queue (AMQP's ``expiration``) counts from the publish, and ``expires`` of the task from the moment it was
called: so the former is worked out anew from the latter. What has expired already goes out without: the worker says so, which keeps the
result visible.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from kombu.entity import Exchange, Queue

from celery_tw.core.command import Command
from celery_tw.stores.redis.envelope import Envelope, write_envelope


def neutral_producer(app: Any, add: Callable[[Command], None], headers_of: Callable[[Any], Any] = lambda headers: headers) -> Any:
    """Return a producer of *app* that hands each message to *add* as a claim, its headers as *headers_of* makes them, and sends nothing."""

    class NeutralProducer(app.amqp.Producer):
        """Records instead of publishing; the rest is the producer class of the app."""

        def publish(self, body: Any, **options: Any) -> Any:
            return super().publish(body, **{**options, "headers": headers_of(options.get("headers")), "retry": False})

        def _publish(
            self,
            body: Any,
            priority: Any,
            content_type: str,
            content_encoding: str,
            headers: dict[str, Any],
            properties: dict[str, Any],
            routing_key: str,
            mandatory: bool,
            immediate: bool,
            exchange: str,
            declare: Any,
            *waiting: Any,
            **retrying: Any,
        ) -> None:
            envelope = Envelope(
                body=body if isinstance(body, bytes) else body.encode(),
                content_type=content_type,
                content_encoding=content_encoding,
                headers=headers,
                properties={**_named(properties), "priority": priority or 0},
                exchange=exchange or "",
                routing_key=routing_key or "",
                declare=tuple(entity.name for entity in declare or () if isinstance(entity, Queue)),
                exchanges=tuple(_written(entity) for entity in declare or () if isinstance(entity, Exchange)),
            )
            add(Command("claim", envelope.destination.encode(), write_envelope(envelope)))

    return NeutralProducer(app.connection_for_write(), auto_declare=False)


def _named(properties: dict[str, Any]) -> dict[str, Any]:
    """Return *properties* with a reply queue by its name, as kombu sends it."""
    reply_to = properties.get("reply_to")
    return {**properties, "reply_to": reply_to.name} if isinstance(reply_to, Queue) else properties


def _written(exchange: Exchange) -> dict[str, Any]:
    return {name: value for name, value in exchange.as_dict().items() if value is not None}


def publish_arguments(envelope: Envelope, *, now_ms: int) -> dict[str, Any]:
    """Return the arguments with which ``Producer.publish`` sends *envelope* at *now_ms*."""
    properties = current_properties(envelope, now_ms=now_ms)
    expiration = properties.pop("expiration", None)
    return {
        **properties,
        "body": envelope.body,
        "exchange": envelope.exchange,
        "routing_key": envelope.routing_key,
        "content_type": envelope.content_type,
        "content_encoding": envelope.content_encoding,
        "headers": dict(envelope.headers),
        "expiration": None if expiration is None else int(expiration) / 1000,
        "retry": False,
    }


def current_properties(envelope: Envelope, *, now_ms: int) -> dict[str, Any]:
    """Return the properties of *envelope* with the ``expiration`` that is right at *now_ms*."""
    properties = dict(envelope.properties)
    expires_ms = _expires_ms(envelope)
    if expires_ms is not None:
        properties.pop("expiration", None)
        if expires_ms > now_ms:
            properties["expiration"] = str(expires_ms - now_ms)
    return properties


def _expires_ms(envelope: Envelope) -> int | None:
    """Return when the task expires, or None; a text that is no moment is left to the worker to complain about."""
    expires = envelope.headers.get("expires")
    try:
        moment = datetime.fromisoformat(expires) if isinstance(expires, str) else None
    except ValueError:
        return None
    if moment is None:
        return None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def known_queues(app: Any, names: Iterable[str]) -> list[Queue]:
    """Return the queues of *names* as the app's settings have them; one that they lack is made up if the settings allow it."""
    queues = app.amqp.queues
    return [queues[name] for name in names if name in queues or queues.create_missing]
