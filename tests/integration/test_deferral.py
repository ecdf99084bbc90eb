"""What becomes of a send with an ETA in the process that sends it; with real workers it is in ``tests/processes/test_deferral.py``."""

import base64
import json
import logging
import pickle
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from inspect import signature
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
import redis
from celery import Celery, chain, group, signals
from kombu import Exchange, Queue
from kombu.exceptions import EncodeError, OperationalError

from celery_tw import TimeWheel, slot
from celery_tw.clock import RedisTime, SystemClock
from celery_tw.core.command import Fire
from celery_tw.core.definition import Definition
from celery_tw.embedded import EmbeddedServer
from celery_tw.errors import InvalidSchedule
from celery_tw.integration.deferring.send_task import FURTHER
from celery_tw.integration.deferring.task_storage import LARGEST_MESSAGE, TIMEOUT_S, TRY_S
from celery_tw.integration.messages.celery_rendering import CeleryRendering
from celery_tw.integration.messages.rendering import Renderer
from celery_tw.stores.redis.codec import OneTime, unpack_one_time
from celery_tw.stores.redis.dispatching import Dispatching
from celery_tw.stores.redis.election import Election, Led
from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.redis.timetable import Timetable
from tests.closing import close
from tests.cutting import CuttingProxy

MakeApp = Callable[..., Celery]
KEYS = Keys("shop")


def equipped(app: Celery) -> Celery:
    """Put a time wheel and a task on *app*."""
    TimeWheel(app)
    app.task(name="add", shared=False)(add)
    return app


@pytest.fixture
def app(make_app: MakeApp) -> Celery:
    """An app that defers whether anybody leads or not."""
    return equipped(make_app(tw_defer_eta="always"))


def add(x: Any = 0, y: Any = 0) -> Any:
    return x + y


def waiting(client: redis.Redis) -> list[OneTime]:
    """Return the tasks in the timetable, the next one first."""
    timetable = Timetable(client, KEYS)
    return [unpack_one_time(timetable.read_one_time(int(member))[0] or b"") for member in client.zrange(KEYS.due, 0, -1)]


def queued(client: redis.Redis, queue: str = "celery") -> list[dict]:
    """Return the messages in a queue, the oldest first."""
    return [json.loads(message) for message in reversed(client.lrange(queue, 0, -1))]


def headers_of(task: OneTime) -> dict:
    return json.loads(task.message)["headers"]


def counts(app: Celery) -> dict[str, int]:
    return dict(TimeWheel(app).deferral.fallbacks.counts)


@contextmanager
def hearing(signal: Any) -> Iterator[list[dict]]:
    heard: list[dict] = []

    def hear(**facts: Any) -> None:
        heard.append(facts)

    signal.connect(hear)
    try:
        yield heard
    finally:
        signal.disconnect(hear)


def assert_celerys_own(client: redis.Redis, result: Any) -> dict:
    """Assert that one message went out with Celery's own ETA and nothing is stored; return its headers."""
    (message,) = queued(client)
    headers = message["headers"]
    assert headers["id"] == result.id
    assert headers["eta"] is not None
    assert "tw_eta" not in headers
    assert waiting(client) == []
    return headers


# What is stored


def test_a_task_with_a_countdown_is_stored_and_not_sent(app: Celery, redis_client: redis.Redis) -> None:
    before_ms = _now_ms()
    result = app.tasks["add"].apply_async((1, 2), countdown=60)

    (task,) = waiting(redis_client)
    assert queued(redis_client) == []
    headers = headers_of(task)
    assert (task.task_id, headers["id"], task.extra["task"]) == (result.id, result.id, "add")
    assert headers["eta"] is None
    assert headers["tw_mid"] == task.mid
    ((_, due_ms),) = redis_client.zrange(KEYS.due, 0, -1, withscores=True)
    assert headers["tw_eta"] == int(due_ms)
    assert abs(due_ms - before_ms - 60_000) < 2000


def _now_ms() -> int:
    return round(datetime.now(UTC).timestamp() * 1000)


class WrongClock(SystemClock):
    """A machine whose wall clock is an hour fast."""

    def wall_ms(self) -> int:
        return super().wall_ms() + 3_600_000


def test_the_first_countdown_of_a_process_counts_by_the_time_of_redis(app: Celery, redis_client: redis.Redis) -> None:
    tasks = TimeWheel(app).deferral.tasks("add")
    assert tasks is not None
    tasks.storage.redis_time = RedisTime(WrongClock())
    before_ms = Timetable(redis_client, KEYS).now_ms()

    app.tasks["add"].apply_async(countdown=60)

    ((_, due_ms),) = redis_client.zrange(KEYS.due, 0, -1, withscores=True)
    assert before_ms + 60_000 <= due_ms < before_ms + 600_000


def test_a_redis_that_does_not_tell_its_time_is_asked_once(
    app: Celery, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    redis_client.execute_command("ACL SETUSER", "default", "-time")
    try:
        for _ in range(2):
            app.tasks["add"].apply_async(countdown=60)
    finally:
        redis_client.execute_command("ACL SETUSER", "default", "+time")
    assert (len(queued(redis_client)), counts(app)) == (2, {"refused": 2})
    assert caplog.text.count("Redis does not tell its time") == 1


def test_every_way_of_sending_is_taken_over(app: Celery, redis_client: redis.Redis) -> None:
    add, later = app.tasks["add"], datetime.now(UTC) + timedelta(hours=1)
    add.apply_async((1,), eta=later)
    app.send_task("elsewhere", (1,), eta=later)
    app.send_task("elsewhere", (1,), None, 3600)
    add.s(1).set(countdown=3600).apply_async()
    group(add.s(1), add.s(2)).apply_async(countdown=3600)
    chain(add.s(1).set(countdown=3600), add.s(2)).apply_async()

    assert queued(redis_client) == []
    assert len(waiting(redis_client)) == 7


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"priority": 7},
        {"queue": "direct", "priority": 3},
        {"queue": "topics", "routing_key": "weather.rain"},
        {"compression": "zlib"},
        {"serializer": "pickle"},
        {"headers": {"trace": "abc"}, "shadow": "other"},
        {"link": "linked", "link_error": "linked"},
        {"time_limit": 9, "soft_time_limit": 5, "ignore_result": True},
        {"expires": 7200},
    ],
    ids=str,
)
def test_what_is_stored_is_what_celery_would_have_sent(options: dict, make_app: MakeApp, redis_client: redis.Redis) -> None:
    queues = [
        Queue("celery"),
        Queue("direct", Exchange("d", type="direct"), routing_key="key"),
        Queue("topics", Exchange("news", type="topic"), routing_key="weather.#"),
    ]
    app = equipped(make_app(tw_defer_eta="always", task_queues=queues))
    options = {name: app.signature("add") if value == "linked" else value for name, value in options.items()}
    task_id = str(uuid4())

    app.tasks["add"].apply_async((1, 2), task_id=task_id, countdown=3600, **options)
    app.tasks["add"].apply_async((1, 2), task_id=task_id, **options)

    (task,) = waiting(redis_client)
    (sent,) = redis_client.lrange(task.queue_key, 0, -1)
    assert _comparable(task.message) == _comparable(sent)


def _comparable(message: bytes) -> dict:
    """Return a message without what differs from send to send, and without AMQP's ``expiration``, which is left to the release."""
    envelope = json.loads(message)
    envelope["properties"].pop("delivery_tag")
    envelope["properties"].pop("expiration", None)
    for name in ("tw_mid", "tw_eta", "tw_seq"):
        envelope["headers"].pop(name, None)
    expires = envelope["headers"].pop("expires")
    return {**envelope, "expires": expires and expires[:15]}


def test_how_long_a_queue_may_keep_it_is_not_counted_while_it_waits(app: Celery, redis_client: redis.Redis) -> None:
    app.tasks["add"].apply_async(countdown=60, expires=90)
    (task,) = waiting(redis_client)
    assert headers_of(task)["expires"] is not None
    assert "expiration" not in json.loads(task.message)["properties"]


def test_the_body_is_compressed_and_serialised_as_asked(app: Celery, redis_client: redis.Redis) -> None:
    app.tasks["add"].apply_async((1, 2), countdown=60, compression="zlib", serializer="pickle")
    (task,) = waiting(redis_client)
    body = base64.b64decode(json.loads(task.message)["body"])
    assert pickle.loads(zlib.decompress(body))[0] == (1, 2)


def test_a_stored_task_is_fired_as_it_is_with_its_number(app: Celery, redis_client: redis.Redis) -> None:
    app.tasks["add"].apply_async((1, 2), countdown=60)
    (task,) = waiting(redis_client)
    led = Election(redis_client, KEYS).acquire("me", lease_ms=10_000)
    assert isinstance(led, Led)
    ((member, _),) = redis_client.zrange(KEYS.due, 0, -1, withscores=True)
    redis_client.zadd(KEYS.due, {member: 1000})

    dispatching = Dispatching(redis_client, KEYS, lease_ms=10_000, history_size=0)
    _, statuses = dispatching.fire_once(led.epoch, [(1000, int(member))], fingerprint=task.fingerprint, queue_keys=[b"celery"]).statuses()

    assert statuses == ["fired"]
    first = led.epoch * 2**20
    assert redis_client.lrange("celery", 0, -1) == [task.message.replace(rb'"tw_seq": "\u0000s"', b'"tw_seq": %d' % first)]
    assert headers_of(task)["tw_seq"] != first
    assert not redis_client.exists(KEYS.by_task)


def test_two_tasks_under_one_id_both_wait(app: Celery, redis_client: redis.Redis) -> None:
    for _ in range(2):
        app.tasks["add"].apply_async(task_id="same", countdown=60)
    assert [task.task_id for task in waiting(redis_client)] == ["same", "same"]
    assert len({task.mid for task in waiting(redis_client)}) == 2


# Identity


def test_each_send_has_a_mid_of_its_own_with_or_without_an_eta(app: Celery, redis_client: redis.Redis) -> None:
    add = app.tasks["add"]
    add.delay()
    add.apply_async(headers={"tw_mid": "inherited", "tw_eta": 5, "trace": "abc"})
    add.apply_async(countdown=60, headers={"tw_mid": "inherited", "tw_eta": 5, "trace": "abc"})

    first, second = (message["headers"] for message in queued(redis_client))
    (task,) = waiting(redis_client)
    third = headers_of(task)
    assert len({"inherited", first["tw_mid"], second["tw_mid"], third["tw_mid"]}) == 4
    assert "tw_eta" not in second
    assert third["tw_eta"] > 5
    assert second["trace"] == third["trace"] == "abc"


def route_with_a_tenant(*_: Any, **__: Any) -> dict:
    return {"queue": "q1", "headers": {"tenant": "t1"}}


@pytest.mark.parametrize(
    "routes", [{"shop.add": {"queue": "q1", "headers": {"tenant": "t1"}}}, route_with_a_tenant], ids=["map", "function"]
)
@pytest.mark.parametrize("options", [{}, {"headers": None}], ids=["left out", "none"])
def test_the_headers_of_a_route_stay_beside_ours(routes: Any, options: dict, make_app: MakeApp, redis_client: redis.Redis) -> None:
    app = equipped(make_app(task_routes=routes, tw_defer_eta="always"))

    app.send_task("shop.add", (1, 2), **options)
    app.send_task("shop.add", (1, 2), countdown=3600, **options)

    (sent,), (stored,) = queued(redis_client, "q1"), waiting(redis_client)
    for headers in (sent["headers"], headers_of(stored)):
        assert headers["tenant"] == "t1"
        assert headers["tw_mid"]
    assert "tw_eta" in headers_of(stored)
    assert stored.mid == headers_of(stored)["tw_mid"]


def test_the_headers_of_a_caller_win_over_those_of_a_route_as_with_celery(make_app: MakeApp, redis_client: redis.Redis) -> None:
    app = equipped(make_app(task_routes=route_with_a_tenant))

    app.send_task("shop.add", (1, 2), headers={"mine": 1})

    (sent,) = queued(redis_client, "q1")
    assert ("tenant" in sent["headers"], sent["headers"]["mine"]) == (False, 1)


def test_the_fire_of_an_entry_keeps_its_own_ids_and_may_still_be_made_from_a_template(app: Celery) -> None:
    fire = Fire(str(uuid4()), 1_700_000_000_000, "entry")
    signature = {"task": "add", "args": [1, 2], "kwargs": {}, "options": {"countdown": 30}}
    (command,) = CeleryRendering(app, signature, reason="").commands(fire)
    assert json.loads(command.payload)["headers"]["tw_mid"] == fire.fire_id

    definition = Definition(name="entry", signature={"task": "add", "args": [1, 2], "kwargs": {}, "options": {}}, schedule={})
    assert Renderer(app).prepare(definition).path == "template"


def test_a_task_reads_the_moment_it_was_meant_for() -> None:
    assert slot(SimpleNamespace(tw_eta=1_700_000_000_000)) == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert slot(SimpleNamespace(tw_eta=5, tw_slot=1_700_000_000_000)) == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert slot(SimpleNamespace(headers={"tw_eta": 1_700_000_000_000})) == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert slot(SimpleNamespace(headers=None)) is None


# What Celery does besides


def test_signals_fire_once_in_the_calling_process_and_what_they_add_survives(app: Celery, redis_client: redis.Redis) -> None:
    def trace(headers: dict, **_: Any) -> None:
        headers["traceparent"] = "00-abc"

    signals.before_task_publish.connect(trace)
    try:
        with hearing(signals.before_task_publish) as before, hearing(signals.after_task_publish) as after:
            app.tasks["add"].apply_async(countdown=60)
    finally:
        signals.before_task_publish.disconnect(trace)

    assert (len(before), len(after)) == (1, 1)
    (task,) = waiting(redis_client)
    assert headers_of(task)["traceparent"] == "00-abc"


def test_signals_fire_once_when_celerys_own_eta_goes_out(make_app: MakeApp, redis_client: redis.Redis) -> None:
    app = equipped(make_app())
    with hearing(signals.before_task_publish) as before, hearing(signals.after_task_publish) as after:
        app.tasks["add"].apply_async(countdown=60)
    assert (len(before), len(after)) == (1, 1)
    assert len(queued(redis_client)) == 1


def test_a_task_sent_event_goes_out_at_once_and_tells_the_eta(make_app: MakeApp, redis_client: redis.Redis) -> None:
    app = equipped(make_app(tw_defer_eta="always", task_send_sent_event=True))
    with redis_client.pubsub() as listener:
        listener.psubscribe("*celeryev*")
        listener.get_message(timeout=5)
        result = app.tasks["add"].apply_async(countdown=60)
        heard = listener.get_message(timeout=5)
    event = json.loads(base64.b64decode(json.loads(heard["data"])["body"]))
    event = event[0] if isinstance(event, list) else event
    assert (event["type"], event["uuid"]) == ("task-sent", result.id)
    assert datetime.fromisoformat(event["eta"]) > datetime.now(UTC)
    assert len(waiting(redis_client)) == 1


def test_what_was_put_in_the_place_of_send_task_before_is_called(make_app: MakeApp) -> None:
    seen: list[str] = []
    app = make_app(tw_defer_eta="always")
    original = app.send_task
    app.send_task = lambda *args, **options: seen.append("early") or original(*args, **options)
    equipped(app)

    app.tasks["add"].apply_async(countdown=60)
    app.tasks["add"].apply_async()

    assert seen == ["early"] * 2


def test_what_a_tracer_puts_on_the_class_counts_even_when_it_comes_later(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    original = Celery.send_task
    monkeypatch.setattr(Celery, "send_task", lambda *args, **options: seen.append("late") or original(*args, **options))

    app.tasks["add"].apply_async(countdown=60)
    app.tasks["add"].apply_async()

    assert seen == ["late"] * 2


def test_a_wrapper_of_the_class_makes_celery_render_each_fire(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Celery.send_task
    monkeypatch.setattr(Celery, "send_task", lambda *args, **options: original(*args, **options))
    definition = Definition(name="entry", signature={"task": "add", "args": [], "kwargs": {}, "options": {}}, schedule={})
    assert "send_task is replaced" in Renderer(app).prepare(definition).reason


def test_what_is_given_by_place_is_what_celery_takes_there() -> None:
    parameters = [each.name for each in signature(Celery.send_task).parameters.values() if each.kind is each.POSITIONAL_OR_KEYWORD]
    assert tuple(parameters) == ("self", "name", "args", "kwargs", *FURTHER)


def test_send_task_takes_its_arguments_as_celerys_own_does(app: Celery, redis_client: redis.Redis) -> None:
    app.send_task(name="add", kwargs={"x": 1})
    app.send_task("add", [2], None, None, None, "by place", retries=3)
    app.send_task("add", [3], {}, 60, task_id="later")

    first, second = queued(redis_client)
    (task,) = waiting(redis_client)
    assert first["headers"]["kwargsrepr"] == "{'x': 1}"
    assert [second["headers"][name] for name in ("argsrepr", "id", "retries")] == ["[2]", "by place", 3]
    assert (task.task_id, headers_of(task)["argsrepr"]) == ("later", "[3]")


@pytest.mark.parametrize(
    ("given", "options"),
    [((), {}), (("add",), {"name": "add"}), (("add", [], {}, 5), {"countdown": 5}), (("add", *[None] * 30), {})],
    ids=["no name", "two", "twice", "too many"],
)
def test_a_call_that_fits_no_parameters_is_a_type_error(given: tuple, options: dict, app: Celery) -> None:
    with pytest.raises(TypeError, match="argument"):
        app.send_task(*given, **options)


def test_a_second_time_wheel_changes_nothing(app: Celery) -> None:
    sender = app.send_task
    TimeWheel(app)
    assert app.send_task is sender


def test_a_producer_or_connection_of_the_caller_is_used_for_what_is_sent(app: Celery, redis_client: redis.Redis) -> None:
    with app.connection_for_write() as connection:
        app.tasks["add"].apply_async(connection=connection, countdown=60)
        app.tasks["add"].apply_async(producer=app.amqp.Producer(connection), countdown=60)
        app.tasks["add"].apply_async(producer=app.amqp.Producer(connection), countdown=60, tw_defer=False)
    assert (len(waiting(redis_client)), len(queued(redis_client))) == (2, 1)


def test_eager_tasks_run_at_once(make_app: MakeApp, redis_client: redis.Redis) -> None:
    app = equipped(make_app(tw_defer_eta="always", task_always_eager=True))
    assert app.tasks["add"].apply_async((1, 2), countdown=60).get() == 3
    assert app.tasks["add"].apply_async((1, 2), countdown=60, tw_defer=False).get() == 3
    assert waiting(redis_client) == []


# What Celery keeps


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({"tw_defer_eta": "off"}, {}),
        ({"tw_defer_min_delay": 61}, {}),
        ({"tw_defer_exclude_queues": ["celery"]}, {}),
        ({"tw_defer_exclude_queues": ("forecasts",)}, {"queue": "forecasts", "routing_key": "weather.rain"}),
        ({}, {"tw_defer": False}),
        ({}, {"countdown": 1.5}),
        ({}, {"countdown": -5}),
        ({}, {"countdown": None, "eta": datetime(2020, 1, 1, tzinfo=UTC)}),
    ],
    ids=str,
)
def test_what_opts_out_goes_to_the_broker_at_once_and_is_not_counted(
    settings: dict, options: dict, make_app: MakeApp, redis_client: redis.Redis
) -> None:
    queues = [Queue("celery"), Queue("forecasts", Exchange("forecasts", type="topic"), routing_key="weather.#")]
    app = equipped(make_app(**{"tw_defer_eta": "always", "task_queues": queues, **settings}))

    app.tasks["add"].apply_async(**{"countdown": 60, **options})

    (message,) = queued(redis_client, options.get("queue", "celery"))
    assert message["headers"]["eta"] is not None
    assert not {"tw_defer", "tw_eta"} & (set(message["headers"]) | set(message["properties"]))
    assert waiting(redis_client) == []
    assert counts(app) == {}


def test_a_task_may_opt_out_for_good(app: Celery, redis_client: redis.Redis) -> None:
    app.task(name="own", shared=False, tw_defer=False)(add)
    app.tasks["own"].apply_async(countdown=60)
    app.send_task("own", countdown=60)
    assert (len(queued(redis_client)), waiting(redis_client)) == (2, [])


def test_the_word_that_keeps_a_step_of_a_chain_with_celery_reaches_no_message(app: Celery, redis_client: redis.Redis) -> None:
    step = app.tasks["add"].s(1).set(tw_defer=False, countdown=60)
    chain(step, step.clone(), app=app).apply_async()

    (first,) = queued(redis_client)
    _, _, embedded = json.loads(base64.b64decode(first["body"]))
    app.signature(embedded["chain"][-1]).apply_async((1,))

    for message in queued(redis_client):
        assert "tw_defer" not in message["properties"] | message["headers"]
        assert message["headers"]["eta"] is not None
    assert (len(queued(redis_client)), waiting(redis_client)) == (2, [])


def test_the_unlocking_of_chords_stays_celerys(app: Celery, redis_client: redis.Redis) -> None:
    app.send_task("celery.chord_unlock", countdown=60)
    assert (len(queued(redis_client)), waiting(redis_client)) == (1, [])


def test_the_old_protocol_stays_celerys(make_app: MakeApp, redis_client: redis.Redis) -> None:
    app = equipped(make_app(tw_defer_eta="always", task_protocol=1))
    app.tasks["add"].apply_async(countdown=60)
    assert (len(queued(redis_client)), waiting(redis_client)) == (1, [])


def test_a_message_for_every_worker_goes_out_with_celerys_own_eta_and_is_counted(make_app: MakeApp, redis_client: redis.Redis) -> None:
    app = equipped(make_app(tw_defer_eta="always", task_queues=[Queue("everyone", Exchange("all", type="fanout"))]))
    app.send_task("add", queue="everyone", countdown=60)
    assert waiting(redis_client) == []
    assert counts(app) == {"not one message": 1}


def test_a_large_message_goes_out_with_celerys_own_eta_and_is_counted_and_warned_of_once(
    app: Celery, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        app.tasks["add"].apply_async(("x" * LARGEST_MESSAGE,), countdown=60)
    assert len(queued(redis_client)) == 3
    assert waiting(redis_client) == []
    assert counts(app) == {"too large": 3}
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "add went out with Celery's own ETA" in warning
    assert "at most 262,144" in warning


def test_an_id_that_cannot_be_stored_goes_out_with_celerys_own_eta(app: Celery, redis_client: redis.Redis) -> None:
    result = app.tasks["add"].apply_async(task_id="two\nlines", countdown=60)
    assert_celerys_own(redis_client, result)


# What goes wrong


def test_a_receiver_that_takes_the_mid_away_loses_no_task(app: Celery, redis_client: redis.Redis) -> None:
    def strip(headers: dict, **_: Any) -> None:
        del headers["tw_mid"]

    signals.before_task_publish.connect(strip)
    try:
        result = app.tasks["add"].apply_async(countdown=60)
    finally:
        signals.before_task_publish.disconnect(strip)
    assert_celerys_own(redis_client, result)
    assert counts(app) == {"unrendered": 1}


def test_after_a_flush_no_task_takes_the_place_of_another(make_app: MakeApp, redis_client: redis.Redis) -> None:
    first, second = equipped(make_app(tw_defer_eta="always")), equipped(make_app(tw_defer_eta="always"))
    first.tasks["add"].apply_async(countdown=60)
    redis_client.flushall()
    for _ in range(3):
        second.tasks["add"].apply_async(countdown=60)
        first.tasks["add"].apply_async(countdown=60)
    assert len(waiting(redis_client)) == 6
    assert len({task.mid for task in waiting(redis_client)}) == 6


@pytest.mark.parametrize("options", [{"countdown": "5"}, {"eta": 5}, {"eta": datetime(2200, 1, 1, tzinfo=UTC)}], ids=str)
def test_an_eta_that_is_no_moment_is_the_callers_error(options: dict, app: Celery, redis_client: redis.Redis) -> None:
    with pytest.raises(InvalidSchedule):
        app.tasks["add"].apply_async(**options)
    assert (queued(redis_client), waiting(redis_client)) == ([], [])


def test_arguments_that_cannot_be_serialised_are_the_callers_error_and_nothing_is_stored(app: Celery, redis_client: redis.Redis) -> None:
    with pytest.raises(EncodeError):
        app.tasks["add"].apply_async((object(),), countdown=60)
    assert (queued(redis_client), waiting(redis_client), counts(app)) == ([], [], {})


def test_without_a_leader_celerys_own_eta_goes_out_counted_and_warned_of(
    make_app: MakeApp, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    app = equipped(make_app())
    result = app.tasks["add"].apply_async(countdown=60)
    headers = assert_celerys_own(redis_client, result)
    assert headers["tw_mid"]
    assert counts(app) == {"leaderless": 1}
    assert "no scheduler has led for 60 s" in caplog.text

    Election(redis_client, KEYS).acquire("me", lease_ms=10_000)
    app.tasks["add"].apply_async(countdown=60)
    assert len(waiting(redis_client)) == 1


def test_wrong_settings_are_told_and_lose_no_task(make_app: MakeApp, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture) -> None:
    app = equipped(make_app(tw_defer_etta="auto"))
    result = app.tasks["add"].apply_async(countdown=60)
    assert_celerys_own(redis_client, result)
    assert "did you mean tw_defer_eta" in caplog.text


def test_the_timetable_of_another_project_is_not_written_to(app: Celery, redis_client: redis.Redis) -> None:
    redis_client.set(KEYS.project, json.dumps({"app": "bank", "packages": []}))
    result = app.tasks["add"].apply_async(countdown=60)
    assert_celerys_own(redis_client, result)
    assert counts(app) == {"misconfigured": 1}


def test_a_full_server_is_the_callers_error_when_it_is_the_broker_too(app: Celery, redis_client: redis.Redis) -> None:
    app.tasks["add"].apply_async(countdown=60)
    redis_client.config_set("maxmemory", 1)
    try:
        with pytest.raises(OperationalError, match="OOM|out of memory|maxmemory"):
            app.tasks["add"].apply_async(countdown=60, retry=False)
    finally:
        redis_client.config_set("maxmemory", 0)
    assert (len(queued(redis_client)), len(waiting(redis_client)), counts(app)) == (0, 1, {"refused": 1})


def test_an_answer_that_is_lost_after_the_store_committed_makes_no_second_copy(
    redis_server: EmbeddedServer, redis_client: redis.Redis
) -> None:
    with CuttingProxy(str(redis_server.socket_path)) as proxy:
        app = equipped(Celery("shop", broker=f"redis://127.0.0.1:{proxy.port}/0", set_as_current=False))
        app.conf.update(tw_defer_eta="always", task_ignore_result=True)
        app.tasks["add"].apply_async(countdown=60)
        proxy.cut_answers_to(b"EVALSHA", number=1)

        app.tasks["add"].apply_async(countdown=60)

        assert proxy.cuts == 1
        assert (len(queued(redis_client)), len(waiting(redis_client)), counts(app)) == (0, 2, {})
        close(app)
        redis_client.client_kill_filter(_type="normal", skipme=True)


@pytest.mark.parametrize("word", [b"TIME", b"GET", b"INCRBY"])
def test_a_question_whose_answer_is_lost_is_asked_again(word: bytes, redis_server: EmbeddedServer, redis_client: redis.Redis) -> None:
    with CuttingProxy(str(redis_server.socket_path)) as proxy:
        app = equipped(Celery("shop", broker=f"redis://127.0.0.1:{proxy.port}/0", set_as_current=False))
        app.conf.update(tw_defer_eta="always", task_ignore_result=True)
        proxy.cut_answers_to(word, number=1)

        app.tasks["add"].apply_async(countdown=60)

        assert proxy.cuts == 1
        assert (len(queued(redis_client)), len(waiting(redis_client)), counts(app)) == (0, 1, {})
        close(app)
        redis_client.client_kill_filter(_type="normal", skipme=True)


def test_while_the_store_is_away_one_call_asks_it_and_the_others_go_straight_to_the_broker(
    redis_url: str, redis_client: redis.Redis
) -> None:
    with EmbeddedServer.start(appendonly=False) as store:
        app = equipped(Celery("shop", broker=redis_url, set_as_current=False))
        app.conf.update(tw_defer_eta="always", task_ignore_result=True, tw_redis_url=store.url)
        app.tasks["add"].apply_async(countdown=60)
        assert queued(redis_client) == []
        store.kill()

        for _ in range(20):
            app.tasks["add"].apply_async(countdown=60)

        assert len(queued(redis_client)) == 20
        assert len({message["headers"]["tw_mid"] for message in queued(redis_client)}) == 20
        assert counts(app) == {"unavailable": 20}
        close(app)


def test_a_task_that_is_not_to_be_stored_spends_no_chance_to_ask_the_store_again(redis_url: str, redis_client: redis.Redis) -> None:
    app = equipped(Celery("shop", broker=redis_url, set_as_current=False))
    app.conf.update(tw_defer_eta="always", task_ignore_result=True)
    tasks = TimeWheel(app).deferral.tasks("add")
    assert tasks is not None
    tasks.now_ms()
    tasks.storage.breaker.fail(tasks.storage.clock.boot_ms() - 60_000)

    app.tasks["add"].apply_async(("x" * LARGEST_MESSAGE,), countdown=60)
    app.tasks["add"].apply_async(countdown=60)

    assert counts(app) == {"too large": 1}
    assert len(waiting(redis_client)) == 1
    close(app)


@pytest.mark.parametrize("used_before", [True, False], ids=["used before", "new"])
def test_a_store_that_hangs_costs_one_call_its_time_out_and_the_others_nothing(
    used_before: bool, redis_url: str, redis_client: redis.Redis
) -> None:
    with EmbeddedServer.start(appendonly=False) as store, CuttingProxy(str(store.socket_path)) as proxy:
        app = equipped(Celery("shop", broker=redis_url, set_as_current=False))
        app.conf.update(tw_defer_eta="always", task_ignore_result=True, tw_redis_url=f"redis://127.0.0.1:{proxy.port}/0")
        if used_before:
            app.tasks["add"].apply_async(countdown=60)
        proxy.silent = True

        for _ in range(20):
            app.tasks["add"].apply_async(countdown=60)

        assert len(queued(redis_client)) == 20
        assert proxy.unanswered * TRY_S <= TIMEOUT_S, "the calls waited in vain as often as one may"
        assert counts(app) == ({"in doubt": 1, "unavailable": 19} if used_before else {"unavailable": 20})
        close(app)
