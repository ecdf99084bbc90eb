"""Rerendering: a one-time task whose message was made for another broker configuration is made again from its own envelope.

The envelope holds everything that a message is (body, content type and encoding, headers, properties, exchange and routing key), so it
serves as the neutral record too: stored once, not twice. kombu publishes it again, into a collector.
"""

from dataclasses import replace
from typing import Any

from kombu.entity import Queue

from celery_tw.errors import MalformedRecord
from celery_tw.integration.messages.collecting import collect
from celery_tw.integration.messages.neutral import known_queues, publish_arguments
from celery_tw.stores.redis.codec import unpack_one_time
from celery_tw.stores.redis.envelope import Envelope, read_envelope


def render_for(app: Any, record: bytes, *, fingerprint: str) -> bytes:
    """Return *record* with its message rendered for the app's present broker; raises `MalformedRecord`."""
    task = unpack_one_time(record)
    try:
        envelope = read_envelope(task.message)
    except MalformedRecord as error:
        raise MalformedRecord(f"one-time task {task.name!r}: {error}") from error
    with collect(app) as collected:
        collected.producer.publish(declare=queues_of(app, envelope), **publish_arguments(envelope, now_ms=task.stored_ms))
    (command,) = collected.commands
    return replace(task, fingerprint=fingerprint, queue_key=command.key.decode(), message=command.payload).pack()


def queues_of(app: Any, envelope: Envelope) -> list[Queue]:
    """Return the queues to declare with *envelope*; one made for a Redis broker does not name those of its exchange."""
    queues = app.amqp.queues
    if envelope.exchange and not envelope.declare:
        return [queue for queue in queues.values() if queue.exchange and queue.exchange.name == envelope.exchange]
    return known_queues(app, envelope.declare)
