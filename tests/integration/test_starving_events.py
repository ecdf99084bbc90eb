"""What the leader finds starving is an event for whoever watches Celery's events."""

import base64
import json
from collections.abc import Callable
from typing import Any

import redis
from celery import Celery

from celery_tw.events import task_starving
from celery_tw.integration.lanes.starving_events import EVENT, StarvingEvents
from tests.waiting import wait_until


def test_a_starving_task_is_an_event(make_app: Callable[..., Celery], redis_client: redis.Redis) -> None:
    StarvingEvents(make_app()).follow()
    with redis_client.pubsub(ignore_subscribe_messages=True) as watching:
        watching.psubscribe("*celeryev*")
        watching.get_message(timeout=1)
        task_starving.send(sender=None, task_id="t", task="shop.mail", queue="work", lane="low", waited_ms=20_000_000)
        message = wait_until(lambda: watching.get_message(timeout=0.1), message="the event")

    event = _event(message["data"])
    expected = {"type": EVENT, "uuid": "t", "name": "shop.mail", "queue": "work", "lane": "low", "waited_ms": 20_000_000}
    assert {name: event[name] for name in expected} == expected


def _event(raw: bytes) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(base64.b64decode(json.loads(raw)["body"]))
    return event
