"""What RabbitMQ does not take is buried, and a person sends it again or discards it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from kombu import Connection, Exchange, Queue

from celery_tw import TimeWheel, UnknownMessage, once
from celery_tw.integration.node import Node
from celery_tw.scheduler.settling import REFUSALS
from tests.claiming import claim, publish


@pytest.fixture
def exchange() -> str:
    """The name of an exchange that nobody has declared."""
    return f"tw-{uuid4().hex}"


@pytest.fixture
def shop(make_app: Callable[..., Celery], redis_url: str, rabbitmq_url: str) -> Celery:
    """An app whose broker is a RabbitMQ, its timetable a Redis."""
    app = make_app("shop", broker_url=rabbitmq_url, tw_redis_url=redis_url, tw_defer_eta="always", tw_defer_min_delay=0)
    TimeWheel(app)

    @app.task(name="shop.add", shared=False)
    def add(*numbers: Any, **more: Any) -> int:
        return sum(numbers)

    return app


@pytest.fixture
def wheel(shop: Celery) -> TimeWheel:
    return TimeWheel(shop)


def bury(shop: Celery, leader: Node, exchange: str, count: int = 1) -> list[Any]:
    """Send tasks to an exchange that is not there, until they are buried; return their results."""
    results = [
        shop.tasks["shop.add"].apply_async((number,), {"key": "k"}, exchange=exchange, routing_key="here", countdown=0.1)
        for number in range(count)
    ]
    claim(leader, count)
    publish(leader, REFUSALS)
    assert leader.parts.claims.sizes().buried == count
    return results


def test_a_message_that_is_refused_is_shown_with_the_reason(shop: Celery, wheel: TimeWheel, leader: Node, exchange: str) -> None:
    result = shop.tasks["shop.add"].apply_async((1,), exchange=exchange, routing_key="here", countdown=0.1)
    claim(leader, 1)
    publish(leader, 2)

    (waiting,) = wheel.outbox.troubled()
    assert (waiting.state, waiting.refusals, waiting.task, waiting.task_id) == ("refused", 2, "shop.add", result.id)
    with pytest.raises(UnknownMessage, match="it waits in the outbox and will be tried again"):
        wheel.outbox.discard([waiting.message_id])

    publish(leader, REFUSALS)
    (buried,) = wheel.outbox.troubled()
    assert (buried.state, buried.refusals, buried.task_id, buried.destination) == ("buried", REFUSALS, result.id, exchange)
    assert "no exchange" in buried.reason
    assert buried.slot is not None
    assert buried.claimed >= buried.slot


def test_a_message_is_shown_with_its_arguments(shop: Celery, wheel: TimeWheel, leader: Node, exchange: str) -> None:
    (result,) = bury(shop, leader, exchange)
    (message,) = wheel.outbox.troubled()

    found = wheel.outbox.show(message.message_id)

    assert found.message == message
    assert (found.headers["id"], found.args, found.kwargs) == (result.id, [0], {"key": "k"})


def test_a_requeued_message_arrives_under_its_own_ids_once_the_broker_takes_it(
    shop: Celery, wheel: TimeWheel, leader: Node, exchange: str
) -> None:
    (result,) = bury(shop, leader, exchange)
    (message,) = wheel.outbox.troubled()
    with Connection(shop.conf.broker_url) as connection:
        channel = connection.default_channel
        queue = Queue(f"{exchange}-queue", Exchange(exchange, type="direct"), routing_key="here")(channel)
        queue.declare()
        try:
            assert wheel.outbox.requeue([message.message_id]) == 1
            publish(leader, 1)
            came = queue.get(no_ack=True)
        finally:
            queue.delete()
            channel.exchange_delete(exchange)

    assert (came.headers["id"], came.headers["tw_mid"]) == (result.id, message.mid)
    assert wheel.outbox.troubled() == []
    assert wheel.status().quarantined == {}


def test_a_discarded_task_ends_revoked(shop: Celery, wheel: TimeWheel, leader: Node, exchange: str) -> None:
    first, second = bury(shop, leader, exchange, 2)
    ids = {message.task_id: message.message_id for message in wheel.outbox.troubled()}

    assert wheel.outbox.discard([ids[first.id]]) == 1

    assert (first.state, second.state) == ("REVOKED", "PENDING")
    assert wheel.outbox.buried_ids() == [ids[second.id]]


def test_when_one_of_several_is_not_there_none_is_touched(shop: Celery, wheel: TimeWheel, leader: Node, exchange: str) -> None:
    bury(shop, leader, exchange)
    (message_id,) = wheel.outbox.buried_ids()

    for verb in (wheel.outbox.requeue, wheel.outbox.discard):
        with pytest.raises(UnknownMessage, match="'1-1' is not among those that the broker refused"):
            verb([message_id, "1-1"])

    assert wheel.outbox.buried_ids() == [message_id]


def test_the_slot_of_a_discarded_fire_is_recorded_as_skipped(shop: Celery, wheel: TimeWheel, leader: Node, exchange: str) -> None:
    at = datetime.now(UTC) + timedelta(seconds=0.3)
    signature = shop.tasks["shop.add"].s(1).set(exchange=exchange, routing_key="here", link=shop.tasks["shop.add"].s(2))
    wheel.schedule("later", signature, once(at))
    leader.engine.hear([], True)
    claim(leader, 1)
    publish(leader, REFUSALS)
    (message,) = wheel.outbox.troubled()
    assert message.entry == "later"

    wheel.outbox.discard([message.message_id])

    keys = leader.parts.keys
    skips = [skip for key in leader.parts.client.scan_iter(f"{keys.tag}:skips:*") for skip in leader.parts.client.zrange(key, 0, -1)]
    assert [b'"reason":"discarded"' in skip for skip in skips] == [True]
