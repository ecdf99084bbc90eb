"""What stands in the settings comes into the timetable, once, whole, and by the newest process."""

from collections.abc import Callable
from typing import Any

import pytest
import redis
from celery import Celery, chain, chord, group, schedules
from celery.beat import BeatLazyFunc

from celery_tw import TimeWheel, every
from celery_tw.integration.connected import Connected
from celery_tw.integration.entries.static_entries import Installer, read_settings, stored_name
from celery_tw.stores.redis.keys import Keys

KEYS = Keys("shop")


class Odd(schedules.BaseSchedule):
    """A schedule class of a user's own."""

    def remaining_estimate(self, last_run_at: Any) -> Any:
        raise AssertionError("not asked here")


def install(app: Celery, *, start_ms: int = 100) -> Connected:
    parts = Connected(app)
    Installer(
        app,
        parts.timetable,
        drafter=parts.drafter,
        storing=lambda: parts.storing,
        statics=parts.statics,
        process_start_ms=lambda: start_ms,
    ).install()
    return parts


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    return make_app("shop", beat_schedule={"tick": {"task": "shop.tick", "schedule": 30.0, "args": (1,)}})


def names(app: Celery) -> set[str]:
    return {entry.name for entry in TimeWheel(app).entries().entries}


def test_settings_entries_are_stored_with_their_options(make_app: Callable[..., Celery]) -> None:
    app = make_app(
        "shop",
        beat_schedule={
            "tick": {
                "task": "shop.tick",
                "schedule": schedules.crontab(minute="0", hour="2"),
                "options": {"queue": "slow", "tw": {"misfire": "skip", "note": "careful", "max_runs": 3}},
            }
        },
    )

    install(app)

    entry = TimeWheel(app).entry("tick")
    assert (entry.source, entry.note, entry.misfire) == ("settings", "careful", {"policy": "skip"})
    assert entry.signature is not None
    assert entry.signature["options"] == {"queue": "slow"}
    assert entry.options is not None
    assert entry.options["max_runs"] == 3


def test_installing_again_changes_nothing(app: Celery, redis_client: redis.Redis) -> None:
    install(app)
    before = redis_client.get(KEYS.news_seq), TimeWheel(app).entry("tick")

    install(app, start_ms=200)

    assert (redis_client.get(KEYS.news_seq), TimeWheel(app).entry("tick")) == before
    assert redis_client.hgetall(KEYS.static) == {b"tick": b"200"}


def test_an_entry_gone_from_the_settings_is_removed(app: Celery) -> None:
    install(app)
    TimeWheel(app).schedule("by-hand", app.signature("shop.tick"), every(30))
    app.conf.beat_schedule = {"tock": {"task": "shop.tick", "schedule": 30.0}}

    install(app, start_ms=200)

    assert names(app) == {"tock", "by-hand"}


def test_an_older_process_leaves_a_newer_one_s_entries_alone(app: Celery, make_app: Callable[..., Celery]) -> None:
    newer = make_app(
        "shop", beat_schedule={"tick": {"task": "shop.tick", "schedule": 60.0}, "added": {"task": "shop.tick", "schedule": 60.0}}
    )
    install(newer, start_ms=200)
    before = TimeWheel(newer).entry("tick")

    install(app, start_ms=100)

    assert names(app) == {"tick", "added"}
    assert TimeWheel(newer).entry("tick") == before


def test_an_older_process_does_not_bring_an_entry_back(app: Celery, make_app: Callable[..., Celery]) -> None:
    install(app, start_ms=100)
    install(make_app("shop", beat_schedule={}), start_ms=200)

    install(app, start_ms=100)

    assert names(app) == set()


def test_a_pause_survives_a_deployment_with_a_changed_entry(app: Celery, make_app: Callable[..., Celery]) -> None:
    install(app, start_ms=100)
    TimeWheel(app).pause("tick")
    newer = make_app("shop", beat_schedule={"tick": {"task": "shop.tick", "schedule": 60.0}})

    install(newer, start_ms=200)

    entry = TimeWheel(newer).entry("tick")
    assert entry.paused
    assert entry.schedule["period_ms"] == 60_000


def test_a_bad_entry_is_left_out_and_harms_no_other(make_app: Callable[..., Celery], caplog: pytest.LogCaptureFixture) -> None:
    app = make_app(
        "shop",
        beat_schedule={
            "good": {"task": "shop.tick", "schedule": 30.0},
            "no-task": {"schedule": 30.0},
            "misspelt": {"task": "shop.tick", "schedule": 30.0, "arguments": ()},
            "too-fast": {"task": "shop.tick", "schedule": 0.001},
            "bad-option": {"task": "shop.tick", "schedule": 30.0, "options": {"tw": {"jiter": 1}}},
            "overlap": {"task": "shop.tick", "schedule": 30.0, "options": {"tw": {"overlap": "sometimes"}}},
            "text": {"task": "shop.tick", "schedule": "*/5 * * * *"},
            "endless": {"task": "shop.tick", "schedule": float("inf")},
            "one-argument": {"task": "shop.tick", "schedule": 30.0, "args": "berlin"},
            "listed": {"task": "shop.tick", "schedule": 30.0, "kwargs": ["berlin"]},
        },
    )

    install(app)

    assert names(app) == {"good"}
    for name in ("no-task", "misspelt", "too-fast", "bad-option", "overlap", "text", "endless", "one-argument", "listed"):
        assert sum(f"{name!r} of beat_schedule is left out" in record.getMessage() for record in caplog.records) == 1


def test_what_cannot_be_written_down_is_fired_from_the_settings(make_app: Callable[..., Celery]) -> None:
    app = make_app(
        "shop",
        beat_schedule={
            "lazy": {"task": "shop.tick", "schedule": 30.0, "args": (BeatLazyFunc(lambda: 5),)},
            "object": {"task": "shop.tick", "schedule": 30.0, "args": (object(),)},
            "odd": {"task": "shop.tick", "schedule": Odd()},
        },
    )
    statics = read_settings(app)

    assert statics["lazy"].lazy
    assert statics["lazy"].evaluated_args() == (5,)
    assert not statics["object"].lazy


def test_long_names_are_shortened_by_a_hash() -> None:
    long, other = "a" * 500, "a" * 499 + "b"

    assert len(stored_name(long)) <= 200
    assert stored_name(long) != stored_name(other)
    assert stored_name("short") == "short"


def test_periodic_tasks_added_in_code_are_entries_too(make_app: Callable[..., Celery]) -> None:
    app = make_app("shop")
    app.add_periodic_task(10.0, app.signature("shop.tick", args=(1,)), name="added")

    install(app)

    assert names(app) == {"added"}


def test_a_canvas_added_in_code_stays_a_canvas(make_app: Callable[..., Celery]) -> None:
    app = make_app("shop")
    step = app.signature("shop.tick", immutable=True)
    for name, canvas in (
        ("chain", chain(step, step, app=app)),
        ("group", group(step, step, app=app)),
        ("chord", chord([step, step], step, app=app)),
    ):
        app.add_periodic_task(10.0, canvas, name=name)

    install(app)

    for name in ("chain", "group", "chord"):
        signature = TimeWheel(app).entry(name).signature
        assert signature is not None
        assert signature["subtask_type"] == name


def test_results_that_do_not_expire_themselves_are_cleaned_up_as_under_stock_beat(make_app: Callable[..., Celery]) -> None:
    app = make_app("shop")

    found = read_settings(_with_backend(app, autoexpire=False))
    none = read_settings(_with_backend(app, autoexpire=True))

    assert found["celery.backend_cleanup"].options == {"expires": 12 * 3600}
    assert "celery.backend_cleanup" not in none


def _with_backend(app: Celery, *, autoexpire: bool) -> Any:
    class Backend:
        supports_autoexpire = autoexpire

    class Facade:
        conf = app.conf
        backend = Backend()
        timezone = app.timezone

    return Facade()
