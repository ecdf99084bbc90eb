"""The way out: what waits goes back to Celery, each task once."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from celery import Celery
from kombu import Exchange, Queue

from celery_tw import TimeWheel, every, once
from celery_tw.core.command import Command
from celery_tw.embedded import EmbeddedServer
from celery_tw.integration.deferring.eject import Ejected
from celery_tw.stores.redis.codec import unpack_one_time
from celery_tw.stores.redis.ejecting import Ejecting
from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.redis.scripts import script
from celery_tw.stores.redis.timetable import Timetable
from tests.closing import close
from tests.cutting import CuttingProxy

MakeApp = Callable[..., Celery]
KEYS = Keys("shop")
QUEUES = [Queue("celery"), Queue("topics", Exchange("news", type="topic"), routing_key="weather.#")]


def equipped(app: Celery) -> Celery:
    app.conf.update(tw_defer_eta="always", task_queues=QUEUES)
    TimeWheel(app)
    app.task(name="add", shared=False)(add)
    return app


@pytest.fixture
def app(make_app: MakeApp) -> Celery:
    return equipped(make_app())


def add(x: Any = 0, y: Any = 0) -> Any:
    return x + y


def queued(client: redis.Redis, queue: str = "celery") -> list[dict]:
    return [json.loads(message) for message in reversed(client.lrange(queue, 0, -1))]


def test_each_waiting_task_goes_to_its_queue_with_its_id_and_eta(app: Celery, redis_client: redis.Redis) -> None:
    earliest = datetime.now(UTC) + timedelta(seconds=60)
    results = [app.tasks["add"].apply_async((n, 1), countdown=60 + n) for n in range(250)]
    latest = datetime.now(UTC) + timedelta(seconds=60)
    stored = unpack_one_time(Timetable(redis_client, KEYS).read_one_time(int(redis_client.zrange(KEYS.due, 0, 0)[0]))[0] or b"")

    assert TimeWheel(app).eject() == Ejected(ejected=250, gone=0, paused=0, refused=0)

    messages = queued(redis_client)
    assert [message["headers"]["id"] for message in messages] == [result.id for result in results]
    first, before = messages[0], json.loads(stored.message)
    due = datetime.fromisoformat(first["headers"]["eta"])
    assert earliest - timedelta(seconds=1) <= due <= latest + timedelta(seconds=1)
    assert round(due.timestamp() * 1000) == before["headers"]["tw_eta"]
    assert "tw_eta" not in first["headers"]
    assert first["headers"]["tw_mid"] == stored.mid
    assert first["body"] == before["body"]
    left = set(redis_client.keys(f"{KEYS.tag}*"))
    assert not left & {key.encode() for key in (KEYS.due, KEYS.by_task, KEYS.names)}
    assert not redis_client.keys(f"{KEYS.tag}:entry:*")


def test_a_second_call_finds_nothing(app: Celery, redis_client: redis.Redis) -> None:
    app.tasks["add"].apply_async(countdown=60)
    TimeWheel(app).eject()
    assert TimeWheel(app).eject() == Ejected(0, 0, 0, 0)
    assert len(queued(redis_client)) == 1


def test_entries_and_paused_tasks_stay(app: Celery, redis_client: redis.Redis) -> None:
    wheel, add = TimeWheel(app), app.tasks["add"]
    later = datetime.now(UTC) + timedelta(hours=1)
    wheel.schedule("hourly", add.s(1), every(hours=1))
    wheel.schedule("later", add.s(2), once(later))
    wheel.schedule("held", add.s(3), once(later))
    wheel.pause("held")

    assert wheel.eject() == Ejected(ejected=1, gone=0, paused=1, refused=0)

    (message,) = queued(redis_client)
    assert message["headers"]["periodic_task_name"] == "later"
    assert {entry.name for entry in wheel.entries().entries} == {"hourly", "held"}


def test_priority_and_topic_are_kept(app: Celery, redis_client: redis.Redis) -> None:
    app.tasks["add"].apply_async(countdown=60, priority=6)
    app.tasks["add"].apply_async(countdown=60, queue="topics", routing_key="weather.rain")
    TimeWheel(app).eject()
    assert len(queued(redis_client, "celery\x06\x166")) == 1
    assert len(queued(redis_client, "topics")) == 1


def test_one_record_that_cannot_be_read_stays_and_holds_up_no_other(app: Celery, redis_client: redis.Redis) -> None:
    app.tasks["add"].apply_async(countdown=60)
    redis_client.set(KEYS.entry(9999), b"nonsense")
    redis_client.zadd(KEYS.due, {"9999": 5})

    assert TimeWheel(app).eject() == Ejected(ejected=1, gone=0, paused=0, refused=1)

    assert redis_client.exists(KEYS.entry(9999))


def test_a_queue_that_cannot_take_a_task_keeps_it_in_the_timetable(app: Celery, redis_client: redis.Redis) -> None:
    app.tasks["add"].apply_async(countdown=60)
    redis_client.set("celery", "no list")

    assert TimeWheel(app).eject() == Ejected(ejected=0, gone=0, paused=0, refused=1)

    assert redis_client.zcard(KEYS.due) == 1


@pytest.fixture
def proxy(redis_server: EmbeddedServer, redis_client: redis.Redis) -> Iterator[CuttingProxy]:
    with CuttingProxy(str(redis_server.socket_path)) as proxy:
        yield proxy
        redis_client.client_kill_filter(_type="normal", skipme=True)


def test_an_answer_that_is_lost_ejects_a_task_once(app: Celery, redis_client: redis.Redis, proxy: CuttingProxy) -> None:
    app.tasks["add"].apply_async(countdown=60)
    ejecting = Ejecting(proxy.client(), KEYS)
    (page,) = list(ejecting.pages())
    redis_client.script_load(script("eject").text)
    proxy.cut_answers_to(b"EVAL", number=1)

    reply = ejecting.eject(
        page[0].entry_id, unpack_one_time(page[0].record), due_ms=page[0].due_ms, push=Command("lpush", b"celery", b"{}")
    )

    assert (proxy.cuts, reply) == (1, "gone")
    assert redis_client.llen("celery") == 1


def test_a_broker_elsewhere_gets_what_waits(redis_url: str, redis_client: redis.Redis) -> None:
    with EmbeddedServer.start(appendonly=False) as store, store.client() as timetable:
        app = equipped(Celery("shop", broker=redis_url, set_as_current=False))
        app.conf.update(tw_redis_url=store.url, task_ignore_result=True)
        result = app.tasks["add"].apply_async((1, 2), countdown=60)
        assert queued(redis_client) == []

        assert TimeWheel(app).eject() == Ejected(ejected=1, gone=0, paused=0, refused=0)

        (message,) = queued(redis_client)
        assert message["headers"]["id"] == result.id
        assert message["headers"]["eta"] is not None
        assert timetable.zcard(KEYS.due) == 0
        close(app)
