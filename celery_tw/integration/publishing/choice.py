"""Choice: the way that fires take to the broker of one app, and how that way is called where people look."""

from collections.abc import Callable
from typing import Any

from kombu.transport.pyamqp import Transport

from celery_tw.integration.broker import shares_redis, transport_name
from celery_tw.integration.publishing.amqp import AmqpPublisher
from celery_tw.integration.publishing.generic import GenericPublisher
from celery_tw.scheduler.ports import Publisher


def publisher_for(app: Any, *, now_ms: Callable[[], int], go_on: Callable[[], bool]) -> Publisher:
    """Return what publishes the outbox to the broker of *app*; where one script reaches the queues, that is what another broker left."""
    publisher = AmqpPublisher if _speaks_amqp(app) else GenericPublisher
    return publisher(app, now_ms=now_ms, go_on=go_on)


def fire_path(app: Any) -> str:
    """Return in a few words how a fire reaches the broker."""
    if shares_redis(app):
        return "one script on the Redis broker"
    if _speaks_amqp(app):
        return f"an outbox, published to {transport_name(app)} with confirms"
    return f"an outbox, published through kombu's {transport_name(app)}"


def _speaks_amqp(app: Any) -> bool:
    try:
        return issubclass(app.connection_for_write().get_transport_cls(), Transport)
    except ImportError:
        return False
