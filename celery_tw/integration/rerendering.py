"""Rerendering: a one-time task whose message was made for another broker configuration is made again from its own envelope.

The envelope of a Redis broker holds everything that a message is (body, content type and encoding, headers, properties, exchange and
routing key), so it serves as the neutral record too: stored once, not twice. kombu publishes it again, into a collector.
"""

import base64
import json
from dataclasses import replace
from typing import Any

from celery_tw.errors import MalformedRecord
from celery_tw.integration.collecting import collect
from celery_tw.stores.redis.codec import unpack_one_time

_OWN = ("delivery_tag", "delivery_info", "body_encoding")


def render_for(app: Any, record: bytes, *, fingerprint: str) -> bytes:
    """Return *record* with its message rendered for the app's present broker; raises `MalformedRecord`."""
    task = unpack_one_time(record)
    try:
        envelope = json.loads(task.message)
        properties = envelope["properties"]
        info = properties["delivery_info"]
        body = _body(envelope)
    except (ValueError, KeyError, TypeError) as error:
        raise MalformedRecord(f"the message of one-time task {task.name!r} cannot be read: {error!r}") from error
    with collect(app) as collected:
        collected.producer.publish(
            body,
            exchange=info.get("exchange", ""),
            routing_key=info["routing_key"],
            content_type=envelope["content-type"],
            content_encoding=envelope["content-encoding"],
            headers=envelope["headers"],
            **{name: value for name, value in properties.items() if name not in _OWN},
        )
    (command,) = collected.commands
    return replace(task, fingerprint=fingerprint, queue_key=command.key.decode(), message=command.payload).pack()


def _body(envelope: dict[str, Any]) -> bytes:
    if envelope["properties"].get("body_encoding") == "base64":
        return base64.b64decode(envelope["body"])
    return envelope["body"].encode()
