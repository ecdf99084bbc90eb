"""The neutral form holds what a publish was: sent from it, a message is the one that Celery would have sent itself."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery, signals
from kombu import Connection, Exchange, Queue

from celery_tw.core.command import Command, Fire
from celery_tw.core.definition import Definition
from celery_tw.errors import MalformedRecord
from celery_tw.integration.broker import fingerprint
from celery_tw.integration.messages.collecting import collect
from celery_tw.integration.messages.neutral import publish_arguments
from celery_tw.integration.messages.rendering import Renderer
from celery_tw.integration.messages.rerendering import render_for
from celery_tw.stores.redis.codec import OneTime, unpack_one_time
from celery_tw.stores.redis.envelope import NEUTRAL, Envelope, read_envelope, write_envelope

MakeApp = Callable[..., Celery]

QUEUES = [
    Queue("celery"),
    Queue("topics", Exchange("news", type="topic"), routing_key="weather.#"),
    Queue("direct", Exchange("d", type="direct"), routing_key="key"),
]

ROUTES: list[dict[str, Any]] = [
    {},
    {"priority": 5},
    {"queue": "made-up"},
    {"queue": "topics", "routing_key": "weather.rain"},
    {"exchange": "d", "routing_key": "key"},
    {"compression": "zlib"},
    {"headers": {"tenant": "acme", "at": datetime(2026, 1, 2, tzinfo=UTC)}},
]


@pytest.fixture
def shop(make_app: MakeApp, redis_url: str) -> Celery:
    """An app whose broker lives in this process and whose timetable is in Redis."""
    app = make_app(broker_url="memory://", tw_redis_url=redis_url, task_queues=QUEUES, task_create_missing_queues=True)

    @app.task(name="add", shared=False)
    def add(x: int, y: int) -> int:
        return x + y

    return app


def collected(app: Celery, task_id: str = "", **route: Any) -> list[Command]:
    with collect(app, numbered=False) as found:
        app.tasks["add"].apply_async((1, 2), task_id=task_id or str(uuid4()), **route)
    return found.commands


def received(connection: Connection, queue: str) -> dict[str, Any]:
    """Return the only message of *queue* without its receipt."""
    message = connection.default_channel.basic_get(queue, no_ack=True)
    assert message is not None
    properties = {name: value for name, value in message.properties.items() if name != "delivery_tag"}
    return {"body": message.body, "headers": message.headers, "type": message.content_type, "properties": properties}


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_a_message_sent_from_its_neutral_form_is_the_one_that_celery_sends(shop: Celery, route: dict[str, Any]) -> None:
    task_id = str(uuid4())
    (command,) = collected(shop, task_id, **route)
    assert command.operation == "claim"
    queue = command.key.decode()
    queue = {"d": "direct", "news": "topics"}.get(queue, queue)
    with shop.connection_for_write() as connection:
        for each in QUEUES:
            each(connection.default_channel).declare()
            connection.default_channel.queue_purge(each.name)
        shop.tasks["add"].apply_async((1, 2), task_id=task_id, **route)
        by_celery = received(connection, queue)
        shop.amqp.Producer(connection).publish(**publish_arguments(read_envelope(command.payload), now_ms=0))
        assert received(connection, queue) == by_celery


def test_nothing_is_sent_and_nothing_connected_while_it_is_recorded(make_app: MakeApp, redis_url: str) -> None:
    app = make_app(broker_url="amqp://nowhere.invalid:1//", tw_redis_url=redis_url)
    with collect(app) as found:
        app.send_task("add", (1, 2), countdown=0, ignore_result=True)
    assert [command.key for command in found.commands] == [b"celery"]
    assert read_envelope(found.commands[0].payload).declare == ("celery",)


def test_task_sent_events_name_their_exchange_and_need_no_listener(make_app: MakeApp, redis_url: str) -> None:
    app = make_app(broker_url="memory://", tw_redis_url=redis_url, task_send_sent_event=True)
    with collect(app) as found:
        app.send_task("add", (1, 2))
    task, event = (read_envelope(command.payload) for command in found.commands)
    assert (task.expects_a_queue, event.expects_a_queue) == (True, False)
    assert Exchange(**event.exchanges[0]).type == "topic"


def test_signals_fire_as_ever(shop: Celery) -> None:
    def before(headers: dict[str, Any], **_: Any) -> None:
        headers["seen"] = 1

    signals.before_task_publish.connect(before)
    try:
        (command,) = collected(shop)
    finally:
        signals.before_task_publish.disconnect(before)
    assert read_envelope(command.payload).headers["seen"] == 1


def test_a_plain_entry_is_filled_into_a_template_of_the_neutral_form(shop: Celery) -> None:
    signature = {"task": "add", "args": [1, 2], "kwargs": {}, "options": {}, "subtask_type": None}
    rendering = Renderer(shop).prepare(Definition(name="sum", signature=signature, schedule={}))
    assert rendering.path == "template"
    (command,) = rendering.commands(Fire("a-fire", 1234, "sum"))
    envelope = read_envelope(command.payload)
    assert (command.operation, command.key) == ("claim", b"celery")
    assert (envelope.task_id, envelope.mid, envelope.headers["tw_slot"]) == ("a-fire", "a-fire", 1234)
    assert envelope.declare == ("celery",)


def test_how_long_it_may_wait_in_a_queue_is_counted_from_the_publish(shop: Celery) -> None:
    expires = datetime.now(UTC) + timedelta(seconds=60)
    (command,) = collected(shop, expires=expires)
    envelope = read_envelope(command.payload)
    expires_ms = round(expires.timestamp() * 1000)
    assert publish_arguments(envelope, now_ms=expires_ms - 2500)["expiration"] == 2.5
    assert publish_arguments(envelope, now_ms=expires_ms + 1)["expiration"] is None


def test_a_bare_expiration_is_kept() -> None:
    envelope = an_envelope(properties={"expiration": "5000"})
    assert publish_arguments(envelope, now_ms=0)["expiration"] == 5.0


def test_an_expiry_that_is_no_moment_is_left_to_the_worker() -> None:
    assert publish_arguments(an_envelope(headers={"expires": "soon"}), now_ms=0)["expiration"] is None


def test_a_binary_body_survives() -> None:
    envelope = an_envelope(body=bytes(range(256)))
    assert read_envelope(write_envelope(envelope)).body == bytes(range(256))


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b'{"properties": 1}', b"\xff"])
def test_what_is_no_envelope_is_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedRecord):
        read_envelope(raw)


def test_a_task_that_waits_is_rendered_again_when_the_app_moves_to_another_broker_and_back(
    make_app: MakeApp, redis_url: str, shop: Celery
) -> None:
    on_redis = make_app("on-redis", task_queues=QUEUES)
    with on_redis.connection_for_write() as connection:
        QUEUES[2](connection.default_channel).declare()
    with collect(on_redis) as found:
        on_redis.send_task("add", (1, 2), task_id="it", exchange="d", routing_key="key")
    record = one_time(found.commands[0])
    elsewhere = unpack_one_time(render_for(shop, record, fingerprint=NEUTRAL))
    envelope = read_envelope(elsewhere.message)
    assert (envelope.exchange, envelope.routing_key, envelope.declare) == ("d", "key", ("direct",))
    back = unpack_one_time(render_for(on_redis, elsewhere.pack(), fingerprint=fingerprint(on_redis)))
    assert back.queue_key == "direct"
    assert json.loads(back.message)["headers"] == json.loads(found.commands[0].payload)["headers"]


def one_time(command: Command) -> bytes:
    return OneTime(
        mid="m",
        name="",
        stored_ms=0,
        last_ms=None,
        fingerprint="another",
        queue_key=command.key.decode(),
        extra={},
        message=command.payload,
    ).pack()


def an_envelope(**changes: Any) -> Envelope:
    plain: dict[str, Any] = {
        "body": b"[]",
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "headers": {},
        "properties": {},
        "exchange": "",
        "routing_key": "celery",
    }
    return Envelope(**{**plain, **changes})
