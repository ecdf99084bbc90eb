"""Native delay: how Celery sends a task with an ETA where RabbitMQ has quorum queues.

A worker that holds such a task cannot raise its prefetch there, so Celery (from 5.5) lets the broker hold it, in a ladder of delaying
queues. It decides so before the message is made. A task that turns out not to be deferred only when it is published is sent the same way
from here.
"""

from collections.abc import Mapping
from typing import Any

from celery.utils.quorum_queues import detect_quorum_queues
from kombu.entity import Exchange
from kombu.transport.native_delayed_delivery import calculate_routing_key

DELAYING_EXCHANGE = "celery_delayed_27"
UNDER_WAY_MS = 50
"""What may have passed since the call: a countdown of a minute is a minute still."""


def with_native_delay(app: Any, options: Mapping[str, Any], *, driver_type: str, delay_ms: int) -> Mapping[str, Any]:
    """Return the publish *options* of a task that is due in *delay_ms*, as Celery chooses them on that kind of broker."""
    delay_s = (delay_ms + UNDER_WAY_MS) // 1000
    if delay_s < 1 or _exchange_type(options) == "direct" or not detect_quorum_queues(app, driver_type)[0]:
        return options
    routing_key = calculate_routing_key(delay_s, options["routing_key"])
    return {**options, "exchange": Exchange(DELAYING_EXCHANGE, type="topic"), "routing_key": routing_key, "declare": None}


def _exchange_type(options: Mapping[str, Any]) -> str:
    queue = next(iter(options.get("declare") or ()), None)
    return getattr(getattr(queue, "exchange", None), "type", None) or "direct"
