"""Entries by name: stored, changed, paused, shown and removed, on a real server without a leader."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from celery import Celery, chain
from kombu import Queue
from kombu.transport.redis import Channel

from celery_tw import (
    InvalidEntry,
    InvalidSchedule,
    Misfire,
    StaticEntry,
    StoreUnavailable,
    TimeWheel,
    UnknownEntry,
    cron,
    every,
    once,
)
from celery_tw.errors import ImproperlyConfigured, NamespaceTaken
from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.redis.scripts import script
from tests.waiting import wait_until

KEYS = Keys("shop")


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    app = make_app("shop")

    @app.task(name="shop.report", shared=False)
    def report(*args: Any, **kwargs: Any) -> None:
        return None

    return app


@pytest.fixture
def wheel(app: Celery) -> TimeWheel:
    return TimeWheel(app)


@pytest.fixture
def report(app: Celery) -> Any:
    return app.tasks["shop.report"]


def soon(seconds: float = 60) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def test_an_entry_is_shown_as_it_was_written(wheel: TimeWheel, report: Any) -> None:
    wheel.schedule("nightly", report.s(42), cron("0 2 * * *", tz="Europe/Berlin"), misfire="skip", note="for the board")

    entry = wheel.entry("nightly")

    assert (entry.task, entry.kind, entry.source, entry.note, entry.paused) == ("shop.report", "recurring", "api", "for the board", False)
    assert entry.schedule == {"kind": "cron", "expression": "0 2 * * *", "zone": "Europe/Berlin", "day_or": True, "hash_id": ""}
    assert entry.misfire == {"policy": "skip"}
    assert entry.signature is not None
    assert entry.signature["args"] == [42]
    assert entry.next_run == wheel.preview("nightly", n=1)[0]


def test_an_equal_definition_is_no_change(wheel: TimeWheel, report: Any, redis_client: redis.Redis) -> None:
    first = wheel.schedule("tick", report.s(1), every(30))
    number = redis_client.get(KEYS.news_seq)

    assert wheel.schedule("tick", report.s(1), every(30)) == first
    assert wheel.schedule_many([{"name": "tick", "signature": report.s(1), "schedule": every(30)}]).unchanged == 1
    assert redis_client.get(KEYS.news_seq) == number


def test_the_anchor_stays_while_the_period_does(wheel: TimeWheel, report: Any) -> None:
    before = wheel.schedule("tick", report.s(1), every(30))

    other_arguments = wheel.schedule("tick", report.s(2), every(30))
    other_period = wheel.schedule("tick", report.s(2), every(31))

    assert other_arguments.schedule == before.schedule
    assert other_arguments.next_run == before.next_run
    assert other_period.schedule["anchor_ms"] != before.schedule["anchor_ms"]


def test_a_pause_survives_a_change_and_is_lifted_by_hand(wheel: TimeWheel, report: Any) -> None:
    wheel.schedule("tick", report.s(1), every(30))

    paused = wheel.pause("tick", note="incident 7")
    changed = wheel.schedule("tick", report.s(2), every(60))
    resumed = wheel.resume("tick")

    assert (paused.paused, paused.pause_note, paused.next_run) == (True, "incident 7", None)
    assert (changed.paused, changed.next_run) == (True, None)
    assert not resumed.paused
    assert resumed.next_run is not None


def test_slots_that_pass_during_a_pause_are_recorded(wheel: TimeWheel, report: Any) -> None:
    wheel.schedule("fast", report.s(), every(milliseconds=10))
    wheel.pause("fast")
    end = datetime.now(UTC) + timedelta(milliseconds=50)
    wait_until(lambda: datetime.now(UTC) > end)

    wheel.resume("fast")

    reasons = {slot.reason for slot in wheel.history("fast")}
    assert "paused" in reasons
    assert all(slot.status == "skipped" for slot in wheel.history("fast"))


def test_a_one_time_task_waits_with_its_message(wheel: TimeWheel, report: Any, redis_client: redis.Redis) -> None:
    entry = wheel.schedule("launch", report.s(7), once(soon()), note="n")

    assert (entry.kind, entry.task, entry.note) == ("one-time", "shop.report", "n")
    assert redis_client.type(KEYS.entry(entry.entry_id)) == b"string"
    assert wheel.schedule("launch", report.s(7), once(entry.next_run), note="n") == entry  # type: ignore[arg-type]
    moved = wheel.schedule("launch", report.s(8), once(soon(120)))
    assert moved.entry_id == entry.entry_id
    assert moved.next_run != entry.next_run
    assert wheel.pause("launch").next_run is None
    assert wheel.resume("launch").next_run == moved.next_run
    wheel.remove("launch")
    with pytest.raises(UnknownEntry):
        wheel.entry("launch")


def test_a_canvas_or_an_expiry_is_rendered_when_it_is_due(wheel: TimeWheel, report: Any) -> None:
    assert wheel.schedule("chain", chain(report.s(1), report.s(2)), once(soon())).kind == "recurring"
    assert wheel.schedule("expiring", report.s(1).set(expires=30), once(soon())).kind == "recurring"


@pytest.mark.skipif(not hasattr(Channel, "_maybe_update_queues_expire"), reason="this kombu expires no Redis queues")
def test_a_one_time_task_for_a_queue_that_expires_is_rendered_when_it_is_due(wheel: TimeWheel, report: Any, app: Celery) -> None:
    app.conf.task_queues = [Queue("fleeting", expires=60)]

    assert wheel.schedule("x", report.s().set(queue="fleeting"), once(soon())).kind == "recurring"


def test_an_entry_does_not_change_its_kind(wheel: TimeWheel, report: Any) -> None:
    wheel.schedule("x", report.s(), every(30))

    with pytest.raises(InvalidEntry, match="recurring entry already"):
        wheel.schedule("x", report.s(), once(soon()))


def test_a_trigger_sends_besides_the_slots(wheel: TimeWheel, report: Any, redis_client: redis.Redis) -> None:
    wheel.schedule("tick", report.s(1), every(3600))
    before = wheel.entry("tick")

    result = wheel.trigger("tick")

    assert redis_client.llen("celery") == 1
    assert result.id
    assert wheel.entry("tick") == before


def test_a_triggered_one_time_task_is_due_now(wheel: TimeWheel, report: Any) -> None:
    wheel.schedule("launch", report.s(), once(soon(3600)))

    wheel.trigger("launch")

    assert wheel.entry("launch").next_run <= datetime.now(UTC) + timedelta(seconds=1)  # type: ignore[operator]


def test_entries_are_listed_by_prefix_in_pages(wheel: TimeWheel, report: Any) -> None:
    specs = [{"name": f"a-{n:03}", "signature": report.s(n), "schedule": every(30)} for n in range(250)]

    assert wheel.schedule_many(specs).put == 250
    wheel.schedule("b", report.s(), every(30))

    names, cursor = set(), None
    while True:
        page = wheel.entries("a-", limit=50, cursor=cursor)
        names |= {entry.name for entry in page.entries}
        cursor = page.cursor
        if cursor is None:
            break
    assert names == {spec["name"] for spec in specs}


@pytest.mark.parametrize("limit", [0, -1, None, 2.5])
def test_a_limit_that_lists_nothing_is_refused(wheel: TimeWheel, limit: Any) -> None:
    with pytest.raises(InvalidEntry, match="limit is a whole number, 1 or more"):
        wheel.entries(limit=limit)


def test_many_entries_may_be_of_many_kinds(wheel: TimeWheel, report: Any) -> None:
    stored = wheel.schedule_many(
        [
            {"name": "cron", "signature": report.s(), "schedule": cron("*/5 * * * *"), "misfire": Misfire.catch_up(rate=5)},
            {"name": "interval", "signature": report.s(), "schedule": 30, "jitter": 2.5},
            {"name": "once", "signature": report.s(), "schedule": once(soon())},
        ]
    )

    assert (stored.put, stored.unchanged) == (3, 0)
    assert wheel.entry("cron").misfire == {"policy": "catch_up", "rate": 5, "limit": 1000}


def test_a_chunk_with_one_bad_entry_is_not_stored(wheel: TimeWheel, report: Any) -> None:
    with pytest.raises(InvalidEntry, match="max_runs"):
        wheel.schedule_many(
            [
                {"name": "good", "signature": report.s(), "schedule": every(30)},
                {"name": "bad", "signature": report.s(), "schedule": every(30), "max_runs": 0},
            ]
        )

    assert wheel.entries().entries == []


def test_a_backfill_is_counted_and_opened(wheel: TimeWheel, report: Any) -> None:
    wheel.schedule("hourly", report.s(), cron("0 * * * *", tz="UTC"))
    day = datetime(2026, 3, 1, tzinfo=UTC)

    dry = wheel.backfill("hourly", day, day + timedelta(hours=5), dry_run=True)
    wet = wheel.backfill("hourly", day, day + timedelta(hours=5), rate=2)

    assert (dry.slots, dry.first, dry.last, dry.generation) == (6, day, day + timedelta(hours=5), None)
    assert wet.generation == 1
    assert list(wheel.status().backlogs.values()) == [6]
    wheel.schedule("fast", report.s(), every(1))
    with pytest.raises(InvalidEntry, match="100,000"):
        wheel.backfill("fast", day, day + timedelta(days=2))


def test_a_settings_entry_is_not_edited_by_hand(wheel: TimeWheel, report: Any, redis_client: redis.Redis) -> None:
    redis_client.hset(KEYS.static, "fixed", 1)

    with pytest.raises(StaticEntry):
        wheel.schedule("fixed", report.s(), every(30))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"overlap": "sometimes"}, "overlap takes one of"),
        ({"lane": "lo"}, "entry 'x': a lane is one of .*did you mean 'low'"),
        ({"misfire": "later"}, "misfire"),
        ({"tolerance": -1}, "tolerance"),
        ({"jitter": float("nan")}, "jitter"),
        ({"max_runs": True}, "max_runs"),
        ({"note": 5}, "note"),
        ({"delivery": "exactly_once"}, "delivery"),
    ],
)
def test_a_bad_option_is_named(wheel: TimeWheel, report: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidEntry, match=words):
        wheel.schedule("x", report.s(), every(30), **options)

    assert wheel.entries().entries == []


@pytest.mark.parametrize("name", ["", " ", "x" * 201, "a\nb", 5])
def test_a_bad_name_is_refused(wheel: TimeWheel, report: Any, name: Any) -> None:
    with pytest.raises(InvalidEntry, match="name"):
        wheel.schedule(name, report.s(), every(30))


@pytest.mark.parametrize(
    "schedule",
    [
        lambda: cron("0 0 30 2 *"),
        lambda: cron(",".join(["1"] * 200_000) + " * * * *"),
        lambda: cron("0 2 * * *", tz="Mars/Olympus"),
        lambda: every(0.001),
        lambda: once(datetime(2030, 1, 1)),  # noqa: DTZ001 - naive is the point
        lambda: once(datetime(2020, 1, 1, tzinfo=UTC)),
        lambda: "soon",
    ],
)
def test_a_bad_schedule_is_refused(wheel: TimeWheel, report: Any, schedule: Callable[[], Any]) -> None:
    with pytest.raises(InvalidSchedule):
        wheel.schedule("x", report.s(), schedule())

    assert wheel.entries().entries == []


def test_what_is_no_signature_is_refused(wheel: TimeWheel, report: Any) -> None:
    with pytest.raises(InvalidEntry, match=r"task\.s\("):
        wheel.schedule("x", report, every(30))
    with pytest.raises(InvalidEntry, match="JSON"):
        wheel.schedule("x", report.s(object()), every(30))
    with pytest.raises(InvalidEntry, match="262,144"):
        wheel.schedule("x", report.s("x" * 300_000), every(30))


def test_an_unknown_name_is_told(wheel: TimeWheel) -> None:
    for verb in (wheel.entry, wheel.remove, wheel.pause, wheel.resume, wheel.trigger, wheel.history):
        with pytest.raises(UnknownEntry, match="'nobody'"):
            verb("nobody")


def test_a_wheel_is_made_once_and_connects_nowhere(make_app: Callable[..., Celery]) -> None:
    app = Celery("elsewhere", broker="redis://localhost:1/0", set_as_current=False)

    wheel = TimeWheel(app)

    assert TimeWheel(app) is wheel
    assert app.timewheel is wheel
    with pytest.raises(StoreUnavailable):
        wheel.status()


def test_an_app_without_a_name_is_refused(redis_url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="tw_namespace"):
        TimeWheel(Celery(broker=redis_url, set_as_current=False)).status()


def test_another_project_is_refused_by_name(make_app: Callable[..., Celery], wheel: TimeWheel, report: Any) -> None:
    wheel.schedule("x", report.s(), every(30))
    stranger = make_app("other", tw_namespace="shop")

    with pytest.raises(NamespaceTaken, match="'shop'"):
        TimeWheel(stranger).entries()


def test_a_change_of_what_is_sent_leaves_the_slots_alone(wheel: TimeWheel, report: Any, redis_client: redis.Redis) -> None:
    entry = wheel.schedule("tick", report.s(1), every(3600))
    key = KEYS.entry(entry.entry_id)
    mark = int(redis_client.hget(key, "mark") or 0)
    redis_client.hset(key, "mark", mark + 5)  # a leader decided a slot meanwhile

    wheel.schedule("tick", report.s(2), every(3600))

    assert redis_client.hget(key, "mark") == b"%d" % (mark + 5)


def test_a_one_time_task_that_is_held_stays_held_when_it_is_stored_again(wheel: TimeWheel, report: Any) -> None:
    wheel.schedule("launch", report.s(7), once(soon()))
    wheel.pause("launch")

    moved = wheel.schedule("launch", report.s(8), once(soon(120)))

    assert moved.paused
    assert moved.next_run is None
    assert not wheel.resume("launch").paused


def test_a_note_on_a_paused_entry_loses_no_slot(wheel: TimeWheel, report: Any, redis_client: redis.Redis) -> None:
    entry = wheel.schedule("fast", report.s(), every(milliseconds=10))
    wheel.pause("fast")
    mark = redis_client.hget(KEYS.entry(entry.entry_id), "mark")

    wheel.pause("fast", note="why")

    assert redis_client.hget(KEYS.entry(entry.entry_id), "mark") == mark


def test_a_removed_entry_comes_back_unpaused_and_with_all_its_runs(wheel: TimeWheel, report: Any, redis_client: redis.Redis) -> None:
    entry = wheel.schedule("x", report.s(), every(30), max_runs=2)
    redis_client.hset(KEYS.entry(entry.entry_id), "count", 2)
    wheel.pause("x")
    wheel.remove("x")

    back = wheel.schedule("x", report.s(), every(30), max_runs=2)

    assert (back.paused, back.total_runs, back.entry_id) == (False, 0, entry.entry_id)
    assert back.next_run is not None


def test_an_entry_that_has_had_its_runs_does_not_start_again_by_a_change(wheel: TimeWheel, report: Any, redis_client: redis.Redis) -> None:
    entry = wheel.schedule("x", report.s(), every(30), max_runs=2)
    redis_client.hset(KEYS.entry(entry.entry_id), "count", 2)

    assert wheel.schedule("x", report.s(), every(60), max_runs=2).next_run is None
    assert wheel.schedule("x", report.s(), every(60), max_runs=3).next_run is not None


def test_a_lost_reply_and_its_repetition_store_one_task(wheel: TimeWheel, report: Any, redis_client: redis.Redis) -> None:
    parts = wheel._parts
    redis_client.script_load(script("put_once").text)  # or the first call would only learn that it is not known
    send, calls = parts.timetable.writing.send_put_one_time, []

    def answered_late(line: Any, writes: Any) -> Any:
        calls.append(send(line, writes))
        if len(calls) == 1:
            wait_until(lambda: redis_client.exists(KEYS.due))
            redis_client.delete(KEYS.due, KEYS.names, *redis_client.keys("*entry*"))
            redis_client.zadd(KEYS.fired, {writes[0].mid: 1})  # the leader fired it before the caller tried again
            line.drop()
        return calls[-1]

    parts.timetable.writing.send_put_one_time = answered_late  # type: ignore[method-assign]

    wheel.schedule("launch", report.s(), once(soon()))

    assert [call.error is None for call in calls] == [False, True]
    assert calls[1].statuses()[1] == ["fired"]
    assert not redis_client.exists(KEYS.due)


def test_how_an_entry_overlaps_is_its_own_or_the_apps(make_app: Callable[..., Celery]) -> None:
    app = make_app("shop", tw_overlap="skip")
    wheel, send = TimeWheel(app), app.signature("shop.report")
    wheel.schedule("apps", send, every(30))
    wheel.schedule("own", send, every(30), overlap="allow")
    wheel.schedule_many([{"name": "many", "signature": send, "schedule": every(30), "overlap": "buffer_one"}])

    assert {name: (wheel.entry(name).options or {})["overlap"] for name in ("apps", "own", "many")} == {
        "apps": "skip",
        "own": "allow",
        "many": "buffer_one",
    }


def test_a_one_time_entry_has_nothing_to_overlap_with(make_app: Callable[..., Celery]) -> None:
    app = make_app("shop", tw_overlap="skip")
    entry = TimeWheel(app).schedule("once", app.signature("shop.report"), once(datetime.now(UTC) + timedelta(hours=1)), overlap="skip")

    assert entry.kind == "one-time"
