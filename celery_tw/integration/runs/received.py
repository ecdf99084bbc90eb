"""Received: a message that a worker has received, as an envelope, and as a record of the timetable.

The record carries no broker's fingerprint: the leader renders it for the broker that it finds when it fires it.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kombu.utils.json import dumps

from celery_tw.integration.messages.destinations import fair_lane_of
from celery_tw.integration.messages.identity_headers import ONCE_MORE
from celery_tw.stores.redis.codec import OneTime
from celery_tw.stores.redis.envelope import Envelope, read_envelope, write_envelope

UNRENDERED = "received"
_OF_THE_FORM = ("delivery_tag", "delivery_info", "body_encoding", "application_headers", "content_type", "content_encoding", "expiration")


def envelope_of(request: Any) -> bytes:
    """Return the message of a worker's *request* as the JSON of an envelope; its body has been decompressed."""
    message = request.message
    return write_envelope(_envelope(message, request.body, {**message.headers, "eta": None}, request.delivery_info))


def envelope_of_message(message: Any) -> bytes:
    """Return a *message* that no request can be made of, as the JSON of an envelope."""
    headers = message.headers if isinstance(message.headers, dict) else {}
    return written(_envelope(message, message.body, headers, message.delivery_info or {}))


def written(envelope: Envelope) -> bytes:
    """Return *envelope* as JSON; a header or a property without a JSON form as text."""
    try:
        return write_envelope(envelope)
    except (TypeError, ValueError):
        return write_envelope(replace(envelope, headers=_shown(envelope.headers), properties=_shown(envelope.properties)))


def message_properties(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of a received message's *properties* that an envelope has."""
    return {name: value for name, value in properties.items() if name not in _OF_THE_FORM}


def _envelope(message: Any, body: Any, headers: Mapping[str, Any], info: Mapping[str, Any]) -> Envelope:
    exchange, routing_key = info.get("exchange") or "", info.get("routing_key") or ""
    return Envelope(
        body=body.encode() if isinstance(body, str) else bytes(body or b""),
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        headers={name: value for name, value in headers.items() if name not in ("compression", ONCE_MORE)},
        properties=message_properties(message.properties or {}),
        exchange=exchange,
        routing_key=routing_key,
        declare=() if exchange else (routing_key,),
    )


def _shown(values: Mapping[str, Any]) -> dict[str, Any]:
    return {str(name): value if _is_plain(value) else repr(value) for name, value in values.items()}


def _is_plain(value: Any) -> bool:
    try:
        dumps(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def once_more(envelope: bytes, mid: str) -> bytes:
    """Return the message of the run *mid* as one that is sent once more."""
    read = read_envelope(envelope)
    return write_envelope(replace(read, headers={**read.headers, ONCE_MORE: mid}))


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
