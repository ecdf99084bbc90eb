"""The lane of an entry is in the messages of its fires, whichever way they are made."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from celery import Celery, chain, chord, group
from celery.beat import BeatLazyFunc

from celery_tw import TimeWheel, every, once
from celery_tw.core.command import Fire
from celery_tw.integration.connected import Connected
from celery_tw.integration.entries.static_entries import read_settings
from celery_tw.stores.redis.codec import decode_definition, unpack_one_time
from celery_tw.stores.redis.keys import Keys

MakeApp = Callable[..., Celery]
KEYS = Keys("shop")


@pytest.fixture
def app(make_app: MakeApp) -> Celery:
    return equipped(make_app(tw_fair_queues=["celery"]))


def add(*numbers: int) -> int:
    return sum(numbers)


def equipped(app: Celery) -> Celery:
    TimeWheel(app)
    app.task(name="add", shared=False)(add)
    app.finalize()
    return app


def fired_lanes(app: Celery, name: str) -> tuple[str, list[str]]:
    """Return which way the messages of an entry are made, and their lanes."""
    parts = Connected(app)
    entry_id = parts.timetable.find_living(name)
    assert entry_id is not None
    (stored,) = parts.timetable.read([entry_id])
    assert stored is not None
    rendering = parts.renderer.prepare(decode_definition(stored.definition))
    commands = rendering.commands(Fire("11111111-1111-1111-1111-111111111111", 1_700_000_000_000, name))
    return rendering.path, [json.loads(command.payload)["headers"]["tw_lane"] for command in commands]


def test_a_plain_entry_has_its_lane_in_a_template(app: Celery) -> None:
    wheel, adding = TimeWheel(app), app.tasks["add"]
    wheel.schedule("low", adding.s(1), every(30), lane="low")
    wheel.schedule("high", adding.s(1).set(lane="high"), every(30))
    wheel.schedule("medium", adding.s(1), every(30))

    assert [fired_lanes(app, name) for name in ("low", "high", "medium")] == [
        ("template", ["low"]),
        ("template", ["high"]),
        ("template", ["medium"]),
    ]


def test_the_parts_of_a_canvas_have_the_lane_of_their_entry(app: Celery) -> None:
    wheel, adding = TimeWheel(app), app.tasks["add"]
    wheel.schedule("chain", chain(adding.s(1), adding.s(2), app=app), every(30), lane="low")
    wheel.schedule("group", group([adding.s(1), adding.s(2)], app=app), every(30), lane="low")
    wheel.schedule("chord", chord([adding.s(1), adding.s(2)], adding.s(), app=app), every(30), lane="low")

    assert [fired_lanes(app, name)[1] for name in ("chain", "group", "chord")] == [["low"], ["low"] * 2, ["low"] * 2]


def test_an_entry_of_the_settings_names_its_lane_with_the_other_words(make_app: MakeApp) -> None:
    entry = {"task": "add", "schedule": 30.0, "args": (BeatLazyFunc(int),), "options": {"queue": "slow", "tw": {"lane": "low"}}}
    app = equipped(make_app(beat_schedule={"lazy": entry}))

    static = read_settings(app)["lazy"]

    assert static.options == {"queue": "slow", "lane": "low"}


def test_a_one_time_entry_knows_its_lane_and_queue(app: Celery, redis_client: redis.Redis) -> None:
    wheel = TimeWheel(app)
    wheel.schedule("later", app.tasks["add"].s(1), once(datetime.now(UTC) + timedelta(hours=1)), lane="low")
    wheel.schedule("elsewhere", app.tasks["add"].s(1).set(queue="other"), once(datetime.now(UTC) + timedelta(hours=1)), lane="low")

    assert _extra(app, "later") == {"lane": "low", "queue": "celery"}
    assert _extra(app, "elsewhere") == {}


def _extra(app: Celery, name: str) -> dict[str, Any]:
    timetable = Connected(app).timetable
    entry_id = timetable.find_living(name)
    assert entry_id is not None
    extra = unpack_one_time(timetable.read_one_time(entry_id)[0] or b"").extra
    return {word: extra[word] for word in ("lane", "queue") if word in extra}
