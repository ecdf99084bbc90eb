"""Envelope: one message in neutral form, as a value and as the JSON that is stored.

The JSON is the envelope that kombu's own virtual transports write, so a message that waits for a Redis broker has the same form; for other
brokers it says besides what has to be declared::

    {"body": "W1s…", "content-type": "application/json", "content-encoding": "utf-8", "headers": {…},
     "properties": {"correlation_id": "…", "delivery_mode": 2, "priority": 0, "body_encoding": "base64", "delivery_tag": "…",
                    "delivery_info": {"exchange": "", "routing_key": "celery"}},
     "declare": ["celery"], "exchanges": []}

``declare`` names queues, which the publishing process knows from its settings. ``exchanges`` are exchanges without a queue, in kombu's own
words: those of events. Nothing in it belongs to one broker, so it is right for whichever broker the app has when it goes out.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from json import JSONDecoder
from typing import Any
from uuid import uuid4

from kombu.utils.json import dumps, loads

from celery_tw.errors import MalformedRecord

NEUTRAL = "neutral"
"""The broker fingerprint of a message in neutral form."""

_PLAIN = JSONDecoder()
_TYPED = b'"__type__"'
"""What stands in JSON with values that only kombu can read; to ask it about every object takes as long as all the rest."""

_OF_THE_FORM = ("delivery_tag", "delivery_info", "body_encoding")


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A message and where it goes. *properties* are those of AMQP, without the ones that belong to the written form."""

    body: bytes
    content_type: str
    content_encoding: str
    headers: Mapping[str, Any]
    properties: Mapping[str, Any]
    exchange: str
    routing_key: str
    declare: Sequence[str] = ()
    exchanges: Sequence[Mapping[str, Any]] = field(default=())

    @property
    def task_id(self) -> str:
        """Return the Celery task id, '' for what is no task."""
        return str(self.headers.get("id") or "")

    @property
    def mid(self) -> str:
        """Return the id of this logical send, '' if it has none."""
        return str(self.headers.get("tw_mid") or "")

    @property
    def destination(self) -> str:
        """Return the name of the queue that the message is meant for, or of the exchange that knows."""
        return self.exchange or self.routing_key

    @property
    def expects_a_queue(self) -> bool:
        """Return whether a message that no queue takes is lost; an event that nobody listens to is not."""
        return not self.exchange or bool(self.declare)


def write_envelope(envelope: Envelope) -> bytes:
    """Return *envelope* as JSON; raises `TypeError` or `ValueError` when a header or property has no JSON form."""
    record: dict[str, Any] = {
        "body": base64.b64encode(envelope.body).decode(),
        "content-encoding": envelope.content_encoding,
        "content-type": envelope.content_type,
        "headers": envelope.headers,
        "properties": {
            **envelope.properties,
            "delivery_info": {"exchange": envelope.exchange, "routing_key": envelope.routing_key},
            "body_encoding": "base64",
            "delivery_tag": str(uuid4()),
        },
        "declare": list(envelope.declare),
    }
    if envelope.exchanges:
        record["exchanges"] = [dict(exchange) for exchange in envelope.exchanges]
    text: str = dumps(record)
    return text.encode()


def read_envelope(raw: bytes) -> Envelope:
    """Return the envelope in *raw*, written here or by kombu for a Redis broker; raises `MalformedRecord`."""
    try:
        record = loads(raw) if _TYPED in raw else _PLAIN.decode(raw.decode())
        properties = record["properties"]
        info = properties["delivery_info"]
        exchange, routing_key = info.get("exchange") or "", info["routing_key"]
        return Envelope(
            body=_body(record["body"], properties.get("body_encoding")),
            content_type=record["content-type"],
            content_encoding=record["content-encoding"],
            headers=dict(record["headers"]),
            properties={name: value for name, value in properties.items() if name not in _OF_THE_FORM},
            exchange=exchange,
            routing_key=routing_key,
            declare=tuple(record.get("declare", () if exchange else (routing_key,))),
            exchanges=tuple(record.get("exchanges", ())),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MalformedRecord(f"the message cannot be read: {error!r}") from error


def _body(text: str, encoding: str | None) -> bytes:
    return base64.b64decode(text) if encoding == "base64" else text.encode()
