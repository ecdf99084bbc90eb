"""Deaths: ways for a task to fail for good, as `application/dying.py` and the senders of broken messages have them."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from celery.result import AsyncResult
from kombu import serialization

from celery_tw.integration.dlq.letter_views import DeadLetter
from tests.processes.yard import Yard

TASK = "shop.pays"
PREFORK = ("prefork",)
EVERY_POOL = ("prefork", "threads", "solo")


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to die: *send* sends what dies so, and *reason* is what its letter says. *repaired* are arguments that its replay needs."""

    reason: str
    send: Callable[[Yard], AsyncResult]
    pools: tuple[str, ...] = EVERY_POOL
    repaired: dict[str, Any] = field(default_factory=dict)


def by_task(name: str) -> Callable[[Yard], AsyncResult]:
    return lambda yard: yard.send(name, name)


def in_its_own_way(yard: Yard) -> AsyncResult:
    """Send a task in a content type that a worker accepts only if it is told to."""
    serialization.register("shops-own", json.dumps, json.loads, content_type="application/x-shop", content_encoding="utf-8")
    return yard.app.send_task(TASK, ("disallowed",), serializer="shops-own")


def raw(body: bytes, **headers: Any) -> Callable[[Yard], AsyncResult]:
    """Return what publishes *body* as the body of a task, as a sender without Celery may."""

    def send(yard: Yard) -> AsyncResult:
        task_id = str(uuid4())
        facts = {"lang": "py", "task": TASK, "id": task_id, "root_id": task_id, "parent_id": None, "group": None, "retries": 0}
        facts |= {"eta": None, "expires": None, "timelimit": [None, None], "argsrepr": "()", "kwargsrepr": "{}", "origin": "elsewhere"}
        queue = yard.app.conf.task_default_queue
        with yard.app.producer_or_acquire() as producer:
            producer.publish(
                body,
                exchange="",
                routing_key=queue,
                declare=[yard.app.amqp.queues[queue]],
                content_type="application/json",
                content_encoding="utf-8",
                correlation_id=task_id,
                headers={**facts, **headers},
            )
        return AsyncResult(task_id, app=yard.app)

    return send


REPAIRED = {"args": ["repaired"], "kwargs": {}}

WAYS = {
    "an exception after the last retry": Way(reason="failed", send=by_task("fails")),
    "a message that its task rejects": Way(reason="rejected", send=by_task("rejects")),
    "a soft time limit": Way(reason="timed_out", send=by_task("dawdles"), pools=PREFORK),
    "a hard time limit": Way(reason="timed_out", send=by_task("hangs"), pools=PREFORK),
    "a process lost too often": Way(reason="lost", send=by_task("crashes"), pools=PREFORK),
    "a task that the worker does not know": Way(reason="unregistered", send=by_task("unknown")),
    "a content type that is not accepted": Way(reason="disallowed", send=in_its_own_way),
    "a body that cannot be decoded": Way(reason="undecodable", send=raw(b'[["a'), repaired=REPAIRED),
    "a body that is no list": Way(reason="malformed", send=raw(b'{"a": 1}'), repaired=REPAIRED),
    "a body of another form, with a mid": Way(reason="malformed", send=raw(b"[1]", tw_mid=str(uuid4())), repaired=REPAIRED),
}


def ways_in(pool: str) -> dict[str, Way]:
    return {name: way for name, way in WAYS.items() if pool in way.pools}


def letters_of(yard: Yard, result: AsyncResult) -> list[DeadLetter]:
    return [letter for letter in yard.wheel.dlq.list(limit=1000).letters if letter.task_id == result.id]


def ends(yard: Yard, result: AsyncResult) -> int:
    """Return how many bodies of a task have come to their end."""
    return yard.values(result.id).count("ends")
