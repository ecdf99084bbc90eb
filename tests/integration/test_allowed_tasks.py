"""Only allowed tasks get into the timetable, and out of it."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from celery import Celery, chain

from celery_tw import TimeWheel, every, once
from celery_tw.core.allowed import AllowedTasks
from celery_tw.core.definition import Definition
from celery_tw.errors import ImproperlyConfigured, InvalidEntry
from celery_tw.integration.messages.rendering import Renderer
from celery_tw.integration.workshop import CeleryWorkshop
from celery_tw.settings import Settings
from celery_tw.stores.redis.codec import OneTime
from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.redis.writing import OneTimeWrite
from tests.scheduler.conftest import Stand

MakeApp = Callable[..., Celery]
ALLOWED = AllowedTasks(("shop.*",))


@pytest.fixture
def wheel(make_app: MakeApp) -> TimeWheel:
    return TimeWheel(make_app("shop", tw_allowed_tasks=["shop.*"], tw_defer_eta="always"))


def test_an_entry_whose_task_is_not_allowed_is_refused_when_it_is_stored(wheel: TimeWheel) -> None:
    signature = wheel.app.signature("os.system")
    for schedule in (every(60), once(datetime.now(UTC) + timedelta(hours=1))):
        with pytest.raises(InvalidEntry, match="entry 'e': the task 'os.system' is not among tw_allowed_tasks"):
            wheel.schedule("e", signature, schedule)
    with pytest.raises(InvalidEntry, match="os.system"):
        wheel.schedule("e", chain(wheel.app.signature("shop.a"), signature), every(60))
    assert wheel.entries().entries == []


def test_an_allowed_one_is_taken(wheel: TimeWheel) -> None:
    assert wheel.schedule("e", wheel.app.signature("shop.report"), every(60)).task == "shop.report"


def test_an_entry_that_is_stored_already_is_not_triggered(make_app: MakeApp) -> None:
    before = TimeWheel(make_app("shop"))
    before.schedule("e", before.app.signature("os.system"), every(60))

    with pytest.raises(InvalidEntry, match="os.system"):
        TimeWheel(make_app("shop", tw_allowed_tasks=["shop.*"])).trigger("e")


def test_a_task_that_is_not_allowed_is_not_deferred(wheel: TimeWheel, redis_client: redis.Redis) -> None:
    wheel.app.send_task("other.task", countdown=3600)
    wheel.app.send_task("shop.task", countdown=3600)

    assert redis_client.zcard(Keys("shop").due) == 1
    assert redis_client.llen("celery") == 1


def test_a_stored_definition_is_not_prepared(make_app: MakeApp) -> None:
    app = make_app("shop")
    workshop = CeleryWorkshop(app, Renderer(app), statics={}, allowed=ALLOWED)
    schedule = {"kind": "interval", "period_ms": 1000}

    with pytest.raises(InvalidEntry, match="'os.system' is not among"):
        workshop.prepare(Definition(name="e", signature={"task": "os.system"}, schedule=schedule))
    assert workshop.prepare(Definition(name="e", signature={"task": "shop.report"}, schedule=schedule))


@pytest.mark.parametrize(
    ("message", "fires"),
    [
        ({"headers": {"task": "shop.report"}}, True),
        ({"headers": {"task": "os.system"}}, False),
        ({"headers": {"task": "xshop.report"}}, False),
        ({"headers": {"task": 5}}, False),
        ({"headers": []}, False),
        ({}, False),
        ("no JSON object", False),
    ],
)
def test_a_one_time_task_that_is_not_allowed_is_kept_back(redis_client: redis.Redis, message: Any, fires: bool) -> None:
    stand = Stand(redis_client, Settings(namespace="shop", allowed_tasks=ALLOWED)).lead()
    stand.run()
    due_ms = stand.now_ms() - 1000
    store(stand, json.dumps(message).encode(), due_ms)

    stand.run()

    assert redis_client.llen("queue") == int(fires)
    assert redis_client.zcard(Keys("shop").due) == int(not fires)
    assert stand.engine.gauges.refused == int(not fires)


def test_a_record_that_forges_the_name_of_its_task_is_kept_back(redis_client: redis.Redis) -> None:
    keys = Keys("shop")
    stand = Stand(redis_client, Settings(namespace="shop", allowed_tasks=ALLOWED)).lead()
    stand.run()
    due_ms = stand.now_ms() - 1000
    store(stand, json.dumps({"headers": {"task": "shop.report", "origin": "a host"}}).encode(), due_ms)
    ((entry_id, _),) = redis_client.zrange(keys.due, 0, -1, withscores=True)
    stored = redis_client.get(keys.entry(int(entry_id))) or b""
    assert stored.endswith(b"\na host")
    redis_client.set(keys.entry(int(entry_id)), stored + b'", "task": "os.system')

    stand.run()

    assert redis_client.llen("queue") == 0
    assert stand.engine.gauges.refused == 1


def store(stand: Stand, message: bytes, due_ms: int) -> None:
    (entry_id,) = stand.timetable.reserve(1, one_time=True)
    record = OneTime(
        mid="m", name="e", stored_ms=due_ms, last_ms=None, fingerprint="f", queue_key="queue", extra={}, message=message
    ).pack()
    stand.timetable.writing.put_one_time([OneTimeWrite(name="e", entry_id=entry_id, mid="m", due_ms=due_ms, record=record)])


@pytest.mark.parametrize("value", ["shop.*", ["a b"], ["[ab]"], [""], [5], 5])
def test_what_is_no_list_of_patterns_is_refused(make_app: MakeApp, value: Any) -> None:
    app = make_app("shop", tw_allowed_tasks=value)
    with pytest.raises(ImproperlyConfigured, match="tw_allowed_tasks"):
        Settings.read(app.conf, app_name="shop")
