"""What is collected is what kombu would have sent: the two are held against each other on a real server."""

import json
import threading
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
import redis
from celery import Celery, chord, group, signals
from kombu import Exchange, Queue
from kombu.transport.redis import Channel

from celery_tw.core.command import Command
from celery_tw.embedded import EmbeddedServer
from celery_tw.errors import StoreUnavailable
from celery_tw.integration.messages.collecting import collect

MakeApp = Callable[..., Celery]

queues_expire = pytest.mark.skipif(not hasattr(Channel, "_maybe_update_queues_expire"), reason="this kombu expires no Redis queues")

QUEUES = [
    Queue("celery"),
    Queue("topics", Exchange("news", type="topic"), routing_key="weather.#"),
    Queue("everyone", Exchange("all", type="fanout")),
    Queue("direct", Exchange("d", type="direct"), routing_key="key"),
    Queue("brief", expires=60),
]

ROUTES: list[dict[str, Any]] = [
    {},
    {"priority": 5},
    {"priority": 9, "queue": "direct"},
    {"queue": "made-up"},
    {"queue": "topics", "routing_key": "weather.rain"},
    {"exchange": "d", "routing_key": "key"},
    {"queue": "brief"},
    {"compression": "zlib"},
]


def shop(make_app: MakeApp, **settings: Any) -> Celery:
    app = make_app(task_queues=QUEUES, task_create_missing_queues=True, **settings)
    app.task(name="add", shared=False)(add)
    return app


def add(x: int, y: int) -> int:
    return x + y


def without_tag(payload: bytes) -> dict:
    envelope = json.loads(payload)
    envelope["properties"].pop("delivery_tag")
    return envelope


def sent(client: redis.Redis) -> dict[bytes, dict]:
    """Return the messages in all queues, by key."""
    lists = [key for key in client.scan_iter() if client.type(key) in (b"list", "list")]
    return {key: without_tag(client.lindex(key, 0)) for key in lists}


@pytest.mark.parametrize("prefix", ["", "shop:"])
@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_a_message_is_collected_as_it_is_sent(route: dict, prefix: str, make_app: MakeApp, redis_client: redis.Redis) -> None:
    app = shop(make_app, broker_transport_options={"global_keyprefix": prefix})
    with app.connection_for_write() as connection:
        for queue in QUEUES:
            queue(connection.default_channel).declare()
    task_id = str(uuid4())
    with collect(app, numbered=False) as collected:
        app.tasks["add"].apply_async((1, 2), task_id=task_id, producer=collected.producer, **route)
    assert sent(redis_client) == {}
    app.tasks["add"].apply_async((1, 2), task_id=task_id, **route)
    pushes = [command for command in collected.commands if command.operation == "lpush"]
    assert {command.key: without_tag(command.payload) for command in pushes} == sent(redis_client)
    assert len(pushes) == 1


@queues_expire
def test_a_queue_that_expires_is_collected_with_its_expiry(make_app: MakeApp) -> None:
    app = shop(make_app)
    with collect(app) as collected:
        app.send_task("add", (1, 2), queue="brief", producer=collected.producer)
    assert collected.commands[1:] == [
        Command("pexpire", key, b"60000") for key in (b"brief", b"brief\x06\x163", b"brief\x06\x166", b"brief\x06\x169")
    ]


@pytest.mark.parametrize("prefix", ["", "shop:"])
def test_a_fanout_is_collected_as_the_publish_it_is(prefix: str, make_app: MakeApp, redis_client: redis.Redis) -> None:
    app = shop(make_app, broker_transport_options={"global_keyprefix": prefix})
    with collect(app) as collected:
        app.send_task("add", (1, 2), queue="everyone", producer=collected.producer)
    (command,) = collected.commands
    with redis_client.pubsub() as listener:
        listener.psubscribe("*all*")
        listener.get_message(timeout=5)
        app.send_task("add", (1, 2), queue="everyone")
        heard = listener.get_message(timeout=5)
    assert command.operation == "publish"
    assert heard["channel"] == command.key


def test_task_sent_events_are_collected_too(make_app: MakeApp) -> None:
    app = shop(make_app, task_send_sent_event=True)
    with collect(app) as collected:
        app.send_task("add", (1, 2), producer=collected.producer)
    assert [command.operation for command in collected.commands] == ["lpush", "publish"]
    assert json.loads(collected.commands[1].payload)["headers"]["hostname"]


def test_signals_fire_as_ever(make_app: MakeApp) -> None:
    app, heard = shop(make_app), []

    def before(headers: dict, **_: Any) -> None:
        headers["seen"] = "1"
        heard.append("before")

    def after(**_: Any) -> None:
        heard.append("after")

    signals.before_task_publish.connect(before)
    signals.after_task_publish.connect(after)
    try:
        with collect(app) as collected:
            app.send_task("add", (1, 2), producer=collected.producer)
    finally:
        signals.before_task_publish.disconnect(before)
        signals.after_task_publish.disconnect(after)
    assert heard == ["before", "after"]
    assert json.loads(collected.commands[0].payload)["headers"]["seen"] == "1"


def test_a_canvas_that_asks_the_app_for_a_producer_is_collected(make_app: MakeApp, redis_client: redis.Redis) -> None:
    app = shop(make_app)
    add = app.tasks["add"]
    with collect(app) as collected:
        chord(group(add.s(1, 1), add.s(2, 2)), app.signature("total")).apply_async()
        (add.s(1, 1) | add.s(2)).apply_async()
    assert len(collected.commands) == 3
    assert sent(redis_client) == {}


def test_other_threads_send_while_one_collects(make_app: MakeApp, redis_client: redis.Redis) -> None:
    app = shop(make_app)
    with collect(app) as collected:
        other = threading.Thread(target=lambda: app.send_task("add", (1, 2)))
        other.start()
        other.join()
    assert collected.commands == []
    assert list(sent(redis_client)) == [b"celery"]


def test_collections_nest_and_end(make_app: MakeApp, redis_client: redis.Redis) -> None:
    app = shop(make_app)
    with collect(app) as outer:
        app.send_task("add", (1, 2))
        with collect(app) as inner:
            app.send_task("add", (3, 4))
        app.send_task("add", (5, 6))
    app.send_task("add", (7, 8))
    assert (len(outer.commands), len(inner.commands), redis_client.llen("celery")) == (2, 1, 1)


def test_nobody_subscribes_to_results_that_nobody_waits_for(make_app: MakeApp, redis_client: redis.Redis) -> None:
    app = shop(make_app)
    with collect(app):
        for _ in range(3):
            app.send_task("add", (1, 2))
    assert redis_client.pubsub_channels() == []


def test_a_render_to_a_known_queue_says_nothing_to_redis(make_app: MakeApp, redis_client: redis.Redis) -> None:
    app = shop(make_app)
    with collect(app) as collected:
        app.send_task("add", (1, 2), producer=collected.producer)
    before = redis_client.info("stats")["total_commands_processed"]
    for _ in range(10):
        with collect(app) as collected:
            app.send_task("add", (1, 2), producer=collected.producer)
    assert redis_client.info("stats")["total_commands_processed"] - before == 1  # our own INFO


def test_a_broker_that_does_not_answer_is_an_error_of_its_own() -> None:
    with EmbeddedServer.start(appendonly=False) as server:
        app = Celery("shop", broker=server.url, set_as_current=False)
        server.kill()
        with pytest.raises(StoreUnavailable, match="did not answer"), collect(app) as collected:
            app.send_task("add", (1, 2), producer=collected.producer)
        app.close()
