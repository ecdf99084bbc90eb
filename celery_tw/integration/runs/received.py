"""Received: a message that a worker has received, as an envelope, and as a record of the timetable.

The record carries no broker's fingerprint: the leader renders it for the broker that it finds when it fires it.
"""

from typing import Any

from celery_tw.integration.messages.destinations import fair_lane_of
from celery_tw.stores.redis.codec import OneTime
from celery_tw.stores.redis.envelope import Envelope, read_envelope, write_envelope

UNRENDERED = "received"
_OF_THE_FORM = ("delivery_tag", "delivery_info", "body_encoding", "application_headers", "content_type", "content_encoding", "expiration")


def envelope_of(request: Any) -> bytes:
    """Return the message of a worker's *request* as the JSON of an envelope; its body has been decompressed."""
    message = request.message
    body, info = request.body, request.delivery_info
    headers = {**message.headers, "eta": None}
    headers.pop("compression", None)
    exchange, routing_key = info.get("exchange") or "", info.get("routing_key") or ""
    return write_envelope(
        Envelope(
            body=body.encode() if isinstance(body, str) else bytes(body),
            content_type=message.content_type,
            content_encoding=message.content_encoding,
            headers=headers,
            properties={name: value for name, value in (message.properties or {}).items() if name not in _OF_THE_FORM},
            exchange=exchange,
            routing_key=routing_key,
            declare=() if exchange else (routing_key,),
        )
    )


def record_rest(envelope: bytes, *, fair: frozenset[str] = frozenset()) -> bytes:
    """Return the record of a one-time task with this message, from the line after the moment of storing.

    It goes back to its queue through its lane, if that is among the *fair* ones.
    """
    read = read_envelope(envelope)
    return OneTime(
        mid="",
        name="",
        stored_ms=0,
        last_ms=None,
        fingerprint=UNRENDERED,
        queue_key=read.destination,
        extra={"task": read.headers.get("task"), **fair_lane_of(read, fair=fair)},
        message=envelope,
        task_id=read.task_id,
    ).pack_rest()
