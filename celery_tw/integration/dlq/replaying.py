"""Replaying: the message of a dead letter, made a new send of the same task.

The replay has the task's id and everything else that Celery knows of it, a mid of its own, and no retries, no ETA and no expiry: those were
about the send that died. The mid is made from the letter's id and the generation, so a replay that is asked for twice is one send. It waits
in the timetable, where the leader takes it like any other one-time task; a run that still lives holds it up until it has ended
(``runs/runner.py``).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from celery.utils.saferepr import saferepr
from kombu import serialization

from celery_tw.core.death import Death
from celery_tw.errors import MalformedRecord
from celery_tw.integration import broker
from celery_tw.integration.cancellation.announcing import request_of
from celery_tw.integration.messages.collecting import collect
from celery_tw.integration.messages.identity_headers import AFTER, ETA, FIRST, GENERATION, MID, REPLAY_OF, SEQUENCE, SNOOZES, to_be_numbered
from celery_tw.integration.messages.neutral import publish_arguments
from celery_tw.integration.messages.rerendering import queues_of
from celery_tw.stores.redis.codec import OneTime
from celery_tw.stores.redis.dead_letters import Requeued
from celery_tw.stores.redis.envelope import NEUTRAL, Envelope, read_envelope, write_envelope

OF_THE_SEND = frozenset({AFTER, ETA, FIRST, SEQUENCE, SNOOZES, "redelivered"})
"""Headers of the send that died, or of its way through the broker."""

EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
FALLBACK_SERIALIZER = "json"


class Replays:
    """Makes replays for one app; what kombu makes of a message for a queue is looked at once for each queue."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self._fingerprint = broker.fingerprint(app)
        self._queue_keys: dict[tuple[str, str, Any], str | None] = {}

    def requeued(
        self, letter_id: str, message: bytes, death: Death, *, arguments: tuple[Sequence[Any], Mapping[str, Any]] | None, delay_ms: int
    ) -> Requeued:
        """Return a letter as it goes out again, with other *arguments* if they are given; raises `MalformedRecord`."""
        envelope = replayed(read_envelope(message), letter_id, generation=death.generation + 1)
        if arguments is not None:
            envelope = self._with_arguments(envelope, *arguments)
        queue_key, payload = self._rendered(envelope)
        record = OneTime(
            mid=envelope.mid,
            name="",
            stored_ms=0,
            last_ms=None,
            fingerprint=self._fingerprint,
            queue_key=queue_key,
            extra={"task": envelope.headers.get("task")},
            message=payload,
            task_id=envelope.task_id,
        )
        return Requeued(letter_id=letter_id, mid=envelope.mid, task_id=envelope.task_id, rest=record.pack_rest(), delay_ms=delay_ms)

    def _rendered(self, envelope: Envelope) -> tuple[str, bytes]:
        """Return where the message goes, and its form for the app's broker."""
        if self._fingerprint == NEUTRAL:
            return envelope.destination, write_envelope(replace(envelope, headers=_numbered(envelope)))
        kind = (envelope.exchange, envelope.routing_key, envelope.properties.get("priority"))
        queue_key = self._queue_keys.get(kind)
        if queue_key is not None:
            return queue_key, write_envelope(replace(envelope, headers=_numbered(envelope)))
        with collect(self.app) as collected:
            collected.producer.publish(declare=queues_of(self.app, envelope), **publish_arguments(envelope, now_ms=0))
        if len(collected.commands) != 1 or not collected.commands[0].carries_a_message:
            raise MalformedRecord(f"no single queue takes a message for {envelope.destination!r}")
        (command,) = collected.commands
        if _is_the_same(command.payload, envelope):
            self._queue_keys[kind] = command.key.decode()
        return command.key.decode(), command.payload

    def _with_arguments(self, envelope: Envelope, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Envelope:
        """Return the message with other arguments, and with the callbacks it had, as far as it can be read."""
        try:
            request = request_of(self.app, envelope)
            embed = {name: getattr(request, name, None) for name in EMBED}
        except Exception:  # whatever a serializer may raise: what cannot be read has no callbacks to keep
            embed = dict(EMBED)
        return with_body(envelope, (list(args), dict(kwargs), embed))


def replayed(envelope: Envelope, letter_id: str, *, generation: int) -> Envelope:
    """Return the message of a letter as that of a new send."""
    headers = {name: value for name, value in envelope.headers.items() if name not in OF_THE_SEND and not name.startswith("x-")}
    headers |= {MID: str(uuid5(NAMESPACE_OID, f"{letter_id}:{generation}")), GENERATION: generation, REPLAY_OF: letter_id}
    headers |= {"retries": 0, "eta": None, "expires": None}
    properties = {name: value for name, value in envelope.properties.items() if name != "expiration" and not name.startswith("x-")}
    return replace(envelope, headers=headers, properties={**properties, "priority": properties.get("priority") or 0})


def with_body(envelope: Envelope, body: tuple[Sequence[Any], Mapping[str, Any], Mapping[str, Any]]) -> Envelope:
    """Return the message with another body, written in its own content type if that is known, else as JSON."""
    name = next((known for known, (kind, _) in _written_as().items() if kind == envelope.content_type), FALLBACK_SERIALIZER)
    content_type, content_encoding, data = serialization.dumps(body, serializer=name)
    args, kwargs, _ = body
    headers = {key: value for key, value in envelope.headers.items() if key != "compression"}
    headers |= {"argsrepr": saferepr(args), "kwargsrepr": saferepr(kwargs)}
    return replace(
        envelope,
        body=data if isinstance(data, bytes) else data.encode(),
        content_type=content_type,
        content_encoding=content_encoding,
        headers=headers,
    )


def _written_as() -> Mapping[str, tuple[str, str]]:
    """Return what each serializer that kombu knows here writes: its content type and encoding."""
    known: Mapping[str, Any] = serialization.registry._encoders
    return {name: (encoder.content_type, encoder.content_encoding) for name, encoder in known.items()}


def _numbered(envelope: Envelope) -> Mapping[str, Any]:
    headers = to_be_numbered(envelope.headers)
    assert headers is not None
    return headers


def _is_the_same(payload: bytes, envelope: Envelope) -> bool:
    """Return whether kombu's form of a message is the one that we write, but for what each writing makes anew."""
    ours = json.loads(write_envelope(replace(envelope, headers=_numbered(envelope))))
    theirs = json.loads(payload)
    ours.pop("declare", None)
    for record in (ours, theirs):
        record["properties"].pop("delivery_tag", None)
    return bool(ours == theirs)
