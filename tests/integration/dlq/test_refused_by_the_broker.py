"""What RabbitMQ does not take is a dead letter as well as a message in the quarantine of the outbox, and leaves both together."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
import redis
from celery import Celery
from kombu import Connection, Exchange, Queue

from celery_tw import TimeWheel
from celery_tw.integration.dlq.leaders_burials import bury_refused, take_back_refused
from celery_tw.integration.node import Node
from celery_tw.scheduler.settling import REFUSALS
from celery_tw.stores.redis.dead_letters import DeadLetters
from celery_tw.stores.redis.envelope import read_envelope
from celery_tw.stores.redis.keys import Keys
from tests.claiming import claim, publish


@pytest.fixture
def exchange() -> str:
    """The name of an exchange that nobody has declared."""
    return f"tw-{uuid4().hex}"


@pytest.fixture
def shop(make_app: Callable[..., Celery], redis_url: str, rabbitmq_url: str) -> Celery:
    app = make_app("shop", broker_url=rabbitmq_url, tw_redis_url=redis_url, tw_defer_eta="always", tw_defer_min_delay=0)
    TimeWheel(app)

    @app.task(name="shop.add", shared=False)
    def add(number: int) -> int:
        return number

    return app


@pytest.fixture
def result(shop: Celery, leader: Node, exchange: str) -> Any:
    """A task that the broker has refused for good."""
    result = shop.tasks["shop.add"].apply_async((7,), exchange=exchange, routing_key="here", countdown=0.1)
    claim(leader, 1)
    publish(leader, REFUSALS)
    return result


def test_its_letter_names_the_reason_and_is_replayed_by_way_of_the_outbox(shop: Celery, leader: Node, exchange: str, result: Any) -> None:
    wheel = TimeWheel(shop)
    (letter,) = wheel.dlq.list().letters
    assert (letter.reason, letter.task_id, letter.attempts, "no exchange" in letter.message) == ("refused", result.id, REFUSALS, True)

    with Connection(shop.conf.broker_url) as connection:
        channel = connection.default_channel
        queue = Queue(f"{exchange}-queue", Exchange(exchange, type="direct"), routing_key="here")(channel)
        queue.declare()
        try:
            assert wheel.dlq.requeue(ids=[letter.letter_id]).count == 1
            publish(leader, 1)
            came = queue.get(no_ack=True)
        finally:
            queue.delete()
            channel.exchange_delete(exchange)

    assert (came.headers["id"], came.headers["tw_mid"]) == (result.id, letter.mid)
    assert (wheel.dlq.count(), wheel.outbox.troubled()) == (0, [])


def test_a_run_whose_message_the_broker_refuses_is_awaited_no_more(
    shop: Celery, leader: Node, redis_client: redis.Redis, exchange: str
) -> None:
    awaited = Keys("shop").awaited
    shop.tasks["shop.add"].apply_async((7,), exchange=exchange, routing_key="here", countdown=0.1)
    claim(leader, 1)
    publish(leader, REFUSALS - 1)
    (parcel,) = leader.duties.outbox.parcels.held()
    redis_client.hset(awaited, mapping={parcel.envelope.headers["tw_mid"]: "1 1", "another": "1 1"})
    publish(leader, 1)
    assert redis_client.hkeys(awaited) == [b"another"]


def test_a_letter_of_an_earlier_leader_is_taken_back_when_the_broker_takes_the_message(
    shop: Celery, leader: Node, redis_client: redis.Redis, exchange: str
) -> None:
    wheel, keys = TimeWheel(shop), Keys("shop")
    shop.tasks["shop.add"].apply_async((7,), exchange=exchange, routing_key="here", countdown=0.1)
    claim(leader, 1)
    publish(leader, REFUSALS - 1)
    (parcel,) = leader.duties.outbox.parcels.held()
    bury_refused(shop, parcel.envelope, claim_id=parcel.claim.claim_id, reason="no exchange", refusals=REFUSALS)
    assert wheel.dlq.count() == 1
    with Connection(shop.conf.broker_url) as connection:
        channel = connection.default_channel
        queue = Queue(f"{exchange}-queue", Exchange(exchange, type="direct"), routing_key="here")(channel)
        queue.declare()
        try:
            publish(leader, 1)
        finally:
            queue.delete()
            channel.exchange_delete(exchange)
    assert (wheel.dlq.count(), redis_client.xlen(keys.outbox)) == (0, 0)


def test_the_letter_of_a_task_that_has_failed_since_stays(shop: Celery, redis_client: redis.Redis, result: Any) -> None:
    letters = DeadLetters(redis_client, Keys("shop"))
    (letter_id,) = [letter.letter_id for letter in TimeWheel(shop).dlq.list().letters]
    (letter,), (message,) = letters.read([letter_id]), letters.messages([letter_id])
    assert message is not None
    letters.bury(letter_id, message, replace(letter.death, reason="failed"))
    take_back_refused(shop, read_envelope(message))

    assert [letter.reason for letter in TimeWheel(shop).dlq.list().letters] == ["failed"]


@pytest.mark.parametrize("verb", ["requeue", "discard"])
def test_its_letter_goes_with_it_when_it_leaves_the_quarantine(shop: Celery, result: Any, verb: str) -> None:
    wheel = TimeWheel(shop)
    getattr(wheel.outbox, verb)(wheel.outbox.buried_ids())
    assert wheel.dlq.count() == 0


def test_the_letter_of_a_node_goes_with_it_too(shop: Celery, leader: Node, exchange: str) -> None:
    wheel, task_id = TimeWheel(shop), f"{'0' * 32}.1.1"
    shop.tasks["shop.add"].apply_async((7,), exchange=exchange, routing_key="here", countdown=0.1, task_id=task_id)
    claim(leader, 1)
    publish(leader, REFUSALS)
    assert [letter.letter_id for letter in wheel.dlq.list().letters] == [task_id]
    wheel.outbox.requeue(wheel.outbox.buried_ids())
    assert wheel.dlq.count() == 0


def test_one_that_is_requeued_with_other_arguments_leaves_the_quarantine_too(shop: Celery, result: Any) -> None:
    wheel = TimeWheel(shop)
    assert wheel.dlq.requeue(args=[8]).count == 1
    assert (wheel.outbox.buried_ids(), wheel.dlq.count()) == ([], 0)


def test_a_purged_letter_leaves_the_quarantine_too(shop: Celery, result: Any) -> None:
    wheel = TimeWheel(shop)
    assert wheel.dlq.purge() == 1
    assert (wheel.outbox.buried_ids(), wheel.dlq.count()) == ([], 0)
