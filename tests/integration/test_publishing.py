"""Publishers: each message's outcome is what the broker really did with it."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import redis
from celery import Celery
from kombu import Connection, Exchange, Queue

from celery_tw.embedded import EmbeddedServer
from celery_tw.errors import BrokerUnavailable
from celery_tw.integration.publishing.amqp import AmqpPublisher
from celery_tw.integration.publishing.choice import fire_path, publisher_for
from celery_tw.integration.publishing.generic import GenericPublisher
from celery_tw.stores.redis.envelope import Envelope
from celery_tw.testing.rabbit_server import RabbitServer

NOW_MS = 1_800_000_000_000


def message(number: int, queue: str, **changes: Any) -> Envelope:
    plain: dict[str, Any] = {
        "body": json.dumps([[number], {}, {}]).encode(),
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "headers": {"id": f"task-{number}", "tw_mid": f"mid-{number}", "task": "add"},
        "properties": {"correlation_id": f"task-{number}", "delivery_mode": 2, "priority": 0},
        "exchange": "",
        "routing_key": queue,
        "declare": (queue,),
    }
    return Envelope(**{**plain, **changes})


class Rabbit:
    """One queue of a RabbitMQ, looked at from outside."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.queue = f"tw-{uuid4().hex}"
        self.app = Celery("shop", broker=url, set_as_current=False)

    def publisher(self, app: Celery | None = None) -> AmqpPublisher:
        return AmqpPublisher(app or self.app, now_ms=lambda: NOW_MS)

    def numbers(self, queue: str = "") -> list[int]:
        """Take all messages out of the queue and return their numbers in order."""
        with Connection(self.url) as connection:
            channel, found = connection.default_channel, []
            while (got := channel.basic_get(queue or self.queue, no_ack=True)) is not None:
                found.append(json.loads(got.body)[0][0])
            return found

    def delete(self, queue: str = "") -> None:
        with Connection(self.url) as connection:
            connection.default_channel.queue_delete(queue or self.queue)

    def declare(self, **arguments: Any) -> None:
        with Connection(self.url) as connection:
            Queue(self.queue, queue_arguments=arguments)(connection.default_channel).declare()


@pytest.fixture
def rabbit(rabbitmq_url: str) -> Iterator[Rabbit]:
    rabbit = Rabbit(rabbitmq_url)
    yield rabbit
    rabbit.delete()


@pytest.fixture
def publisher(rabbit: Rabbit) -> Iterator[AmqpPublisher]:
    publisher = rabbit.publisher()
    publisher.open()
    yield publisher
    publisher.close()


def verdicts(publisher: AmqpPublisher | GenericPublisher, envelopes: list[Envelope]) -> list[str]:
    return [outcome.verdict for outcome in publisher.publish(envelopes)]


def test_a_batch_is_confirmed_and_arrives_in_order(rabbit: Rabbit, publisher: AmqpPublisher) -> None:
    assert verdicts(publisher, [message(number, rabbit.queue) for number in range(1000)]) == ["confirmed"] * 1000
    assert rabbit.numbers() == list(range(1000))


def test_what_can_be_done_meanwhile_is_done_once_before_any_confirm_is_waited_for(rabbit: Rabbit, publisher: AmqpPublisher) -> None:
    under_way: list[int] = []
    batch = [message(number, rabbit.queue) for number in range(3)]
    outcomes = publisher.publish(batch, meanwhile=lambda: under_way.append(len(publisher._flight.pending)))
    assert (under_way, [outcome.verdict for outcome in outcomes]) == ([3], ["confirmed"] * 3)


def test_a_message_arrives_as_it_was_written(rabbit: Rabbit, publisher: AmqpPublisher) -> None:
    sent = message(1, rabbit.queue, properties={"correlation_id": "c", "reply_to": "r", "delivery_mode": 2, "priority": 7})
    assert verdicts(publisher, [sent]) == ["confirmed"]
    with Connection(rabbit.url) as connection:
        came = connection.default_channel.basic_get(rabbit.queue, no_ack=True)
    assert (came.body, came.content_type, came.content_encoding) == (sent.body.decode(), "application/json", "utf-8")
    assert came.headers == sent.headers
    assert {name: came.properties[name] for name in sent.properties} == sent.properties


def test_a_task_that_expires_may_wait_in_the_queue_for_what_is_left(rabbit: Rabbit, publisher: AmqpPublisher) -> None:
    expiring = message(1, rabbit.queue, headers={"id": "1", "expires": "2027-01-15T08:01:00+00:00"})
    assert verdicts(publisher, [expiring]) == ["confirmed"]
    with Connection(rabbit.url) as connection:
        assert connection.default_channel.basic_get(rabbit.queue, no_ack=True).properties["expiration"] == "60000"


def test_what_no_queue_takes_is_unroutable_and_the_others_arrive(rabbit: Rabbit, publisher: AmqpPublisher) -> None:
    nowhere = message(1, f"{rabbit.queue}-none", declare=())
    batch = [message(0, rabbit.queue), nowhere, message(2, rabbit.queue)]
    assert verdicts(publisher, batch) == ["confirmed", "unroutable", "confirmed"]
    assert rabbit.numbers() == [0, 2]


def test_a_queue_that_was_deleted_is_declared_again_at_once(rabbit: Rabbit, publisher: AmqpPublisher) -> None:
    publisher.publish([message(0, rabbit.queue)])
    rabbit.delete()
    assert verdicts(publisher, [message(1, rabbit.queue), message(2, rabbit.queue)]) == ["confirmed"] * 2
    assert rabbit.numbers() == [1, 2]


def test_a_full_queue_refuses_and_the_others_arrive(rabbit: Rabbit, publisher: AmqpPublisher) -> None:
    rabbit.declare(**{"x-max-length": 1, "x-overflow": "reject-publish"})
    other = f"{rabbit.queue}-other"
    assert verdicts(publisher, [message(0, rabbit.queue)]) == ["confirmed"]
    assert verdicts(publisher, [message(1, rabbit.queue), message(2, other)]) == ["refused", "confirmed"]
    assert (rabbit.numbers(), rabbit.numbers(other)) == ([0], [2])
    rabbit.delete(other)


def test_a_queue_declared_otherwise_is_used_as_it_is(rabbit: Rabbit) -> None:
    rabbit.declare(**{"x-max-priority": 5})
    publisher = rabbit.publisher()
    publisher.open()
    assert verdicts(publisher, [message(0, rabbit.queue)]) == ["confirmed"]
    publisher.close()


def test_a_message_that_makes_the_broker_close_the_channel_is_refused_alone(rabbit: Rabbit, publisher: AmqpPublisher) -> None:
    strange = message(1, rabbit.queue, exchange="tw-no-such-exchange", declare=())
    outcomes = publisher.publish([message(0, rabbit.queue), strange, message(2, rabbit.queue)])
    assert [outcome.verdict for outcome in outcomes] == ["confirmed", "refused", "confirmed"]
    assert "no exchange" in outcomes[1].reason
    assert set(rabbit.numbers()) == {0, 2}


@pytest.mark.parametrize("what", [object(), 2**70, {"n" * 300: 1}], ids=["no type", "too large a number", "too long a name"])
def test_a_header_that_amqp_cannot_write_is_refused_alone(rabbit: Rabbit, publisher: AmqpPublisher, what: Any) -> None:
    strange = message(1, rabbit.queue, headers={"id": "1", "what": what})
    assert verdicts(publisher, [message(0, rabbit.queue), strange, message(2, rabbit.queue)]) == ["confirmed", "refused", "confirmed"]
    assert rabbit.numbers() == [0, 2]


@pytest.mark.parametrize("declared", [True, False])
def test_a_queue_whose_name_amqp_cannot_write_is_refused_alone(rabbit: Rabbit, publisher: AmqpPublisher, declared: bool) -> None:
    strange = message(1, "q" * 300, declare=("q" * 300,) if declared else ())
    assert verdicts(publisher, [message(0, rabbit.queue), strange, message(2, rabbit.queue)]) == ["confirmed", "refused", "confirmed"]


def test_an_event_that_nobody_listens_to_is_no_loss(rabbit: Rabbit, publisher: AmqpPublisher) -> None:
    exchange = Exchange(f"{rabbit.queue}-events", type="topic", durable=False, auto_delete=True)
    event = message(1, "task.sent", exchange=exchange.name, declare=(), exchanges=(exchange.as_dict(),))
    assert verdicts(publisher, [event]) == ["confirmed"]


def test_the_users_own_confirm_option_does_not_slow_a_batch_down(rabbit: Rabbit) -> None:
    app = Celery("shop", broker=rabbit.url, set_as_current=False)
    app.conf.broker_transport_options = {"confirm_publish": True}
    publisher = rabbit.publisher(app)
    publisher.open()
    assert verdicts(publisher, [message(number, rabbit.queue) for number in range(200)]) == ["confirmed"] * 200
    publisher.close()


def test_of_a_list_of_brokers_the_first_that_answers_is_used(rabbit: Rabbit) -> None:
    publisher = rabbit.publisher(Celery("shop", broker=f"amqp://127.0.0.1:1//;{rabbit.url}", set_as_current=False))
    publisher.open()
    assert verdicts(publisher, [message(0, rabbit.queue)]) == ["confirmed"]
    publisher.close()


def test_a_broker_that_is_not_there_is_said_to_be_away() -> None:
    publisher = AmqpPublisher(Celery("shop", broker="amqp://127.0.0.1:1//", set_as_current=False), now_ms=lambda: NOW_MS)
    with pytest.raises(BrokerUnavailable, match="does not answer"):
        publisher.open()
    publisher.close()


def test_a_broker_killed_under_way_leaves_it_unknown_and_is_found_again(rabbit_server: RabbitServer) -> None:
    rabbit = Rabbit(rabbit_server.url)
    publisher = rabbit.publisher()
    publisher.open()
    assert verdicts(publisher, [message(0, rabbit.queue)]) == ["confirmed"]
    rabbit_server.kill()
    assert verdicts(publisher, [message(1, rabbit.queue)]) == ["unknown"]
    with pytest.raises(BrokerUnavailable):
        publisher.open()
    rabbit_server.start()
    publisher.open()
    assert verdicts(publisher, [message(1, rabbit.queue)]) == ["confirmed"]
    assert rabbit.numbers() == [0, 1]
    publisher.close()


def test_a_connection_closed_by_an_operator_is_found_before_anything_is_sent(rabbit_server: RabbitServer) -> None:
    rabbit = Rabbit(rabbit_server.url)
    publisher = rabbit.publisher()
    publisher.open()
    rabbit_server.control("close_all_connections", "maintenance")
    publisher.open()
    assert verdicts(publisher, [message(0, rabbit.queue)]) == ["confirmed"]
    assert rabbit.numbers() == [0]
    publisher.close()


def test_a_broker_that_blocks_its_publishers_is_waited_for(rabbit_server: RabbitServer) -> None:
    rabbit = Rabbit(rabbit_server.url)
    publisher = rabbit.publisher()
    publisher.open()
    publisher.publish([message(0, rabbit.queue)])
    rabbit_server.control("set_vm_memory_high_watermark", "absolute", "1MB")
    waits: list[str] = []

    def go_on() -> bool:
        waits.append("blocked" if publisher._blocked else "")
        if len(waits) == 2:
            rabbit_server.control("set_vm_memory_high_watermark", "0.9")
        return True

    publisher.go_on = go_on
    assert verdicts(publisher, [message(1, rabbit.queue)]) == ["confirmed"]
    assert "blocked" in waits
    rabbit_server.control("set_vm_memory_high_watermark", "absolute", "1MB")
    publisher.go_on = lambda: False
    assert verdicts(publisher, [message(2, rabbit.queue)]) == ["unknown"]
    publisher.close()


# Generic


def generic(app: Celery) -> GenericPublisher:
    publisher = GenericPublisher(app, now_ms=lambda: NOW_MS)
    publisher.open()
    return publisher


def test_the_memory_transport_takes_messages_of_this_process() -> None:
    app = Celery("shop", broker="memory://", set_as_current=False)
    queue = f"tw-{uuid4().hex}"
    assert verdicts(generic(app), [message(number, queue) for number in range(3)]) == ["confirmed"] * 3
    with app.connection_for_write() as connection:
        came = [json.loads(connection.default_channel.basic_get(queue, no_ack=True).body)[0][0] for _ in range(3)]
    assert came == [0, 1, 2]


def test_another_redis_takes_a_batch_in_order(redis_url: str, redis_client: redis.Redis) -> None:
    app = Celery("shop", broker=redis_url, set_as_current=False)
    assert verdicts(generic(app), [message(number, "celery") for number in range(300)]) == ["confirmed"] * 300
    waiting = [json.loads(each)["headers"]["id"] for each in reversed(redis_client.lrange("celery", 0, -1))]
    assert waiting == [f"task-{number}" for number in range(300)]


def test_a_message_that_kombu_cannot_write_is_refused_alone(redis_url: str) -> None:
    app = Celery("shop", broker=redis_url, set_as_current=False)
    strange = message(1, "celery", headers={"id": "1", "what": object()})
    assert verdicts(generic(app), [message(0, "celery"), strange, message(2, "celery")]) == ["confirmed", "refused", "confirmed"]


def test_a_redis_that_goes_away_leaves_it_unknown_and_is_found_again() -> None:
    with EmbeddedServer.start() as server:
        app = Celery("shop", broker=server.url, set_as_current=False)
        publisher = generic(app)
        assert verdicts(publisher, [message(0, "celery")]) == ["confirmed"]
        server.kill()
        assert verdicts(publisher, [message(1, "celery"), message(2, "celery")]) == ["unknown"] * 2
        with pytest.raises(BrokerUnavailable):
            publisher.open()
        server.restart()
        publisher.open()
        assert verdicts(publisher, [message(1, "celery")]) == ["confirmed"]
        publisher.close()


# Choice


@pytest.mark.parametrize(
    ("broker", "wheel", "path", "kind"),
    [
        ("redis://localhost/0", None, "one script on the Redis broker", GenericPublisher),
        ("redis://localhost/1", "redis://localhost/0", "an outbox, published through kombu's redis", GenericPublisher),
        ("amqp://localhost//", "redis://localhost/0", "an outbox, published to amqp with confirms", AmqpPublisher),
        ("memory://", "redis://localhost/0", "an outbox, published through kombu's memory", GenericPublisher),
    ],
)
def test_the_way_to_the_broker_follows_from_the_urls(broker: str, wheel: str | None, path: str, kind: type) -> None:
    app = Celery("shop", broker=broker, set_as_current=False)
    if wheel is not None:
        app.conf.tw_redis_url = wheel
    assert fire_path(app) == path
    assert type(publisher_for(app, now_ms=lambda: NOW_MS, go_on=lambda: True)) is kind
