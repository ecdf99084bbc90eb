"""What users write as a schedule, and the spec that is stored for it."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import celery
import pytest
from celery import Celery
from celery.schedules import BaseSchedule, crontab, schedule

from celery_tw.core.recurrence import slots_between
from celery_tw.errors import InvalidSchedule
from celery_tw.integration.moments import from_ms, to_ms
from celery_tw.integration.schedules.written import cron, every, keeps_anchor, once, recurrence_of, rrule, spec_of

NOW_MS = to_ms(datetime(2026, 5, 1, 12, 0, 10, tzinfo=UTC))


@pytest.fixture
def app() -> Iterator[Celery]:
    app = Celery("shop", set_as_current=False)
    app.conf.timezone = "Europe/Berlin"
    yield app
    app.close()


def spec(source: object, app: Celery, *, entry_name: str = "entry") -> dict:
    return spec_of(source, app=app, now_ms=NOW_MS, entry_name=entry_name)


def local_slots(source: object, app: Celery, *, after: datetime, count: int) -> list[str]:
    recurrence = recurrence_of(spec(source, app), app=app, schedule=source)
    slots = slots_between(recurrence, to_ms(after), 2**62, limit=count)
    return [f"{from_ms(slot).astimezone(ZoneInfo('Europe/Berlin')):%Y-%m-%d %H:%M}" for slot in slots]


def test_a_builder_needs_no_app_and_takes_the_zone_of_the_app_that_asks(app: Celery) -> None:
    nightly = cron("0 2 * * *")
    assert spec(nightly, app)["zone"] == "Europe/Berlin"
    assert spec(cron("0 2 * * *", tz="Asia/Tokyo"), app)["zone"] == "Asia/Tokyo"
    assert spec(cron("0 2 * * *", tz=ZoneInfo("Asia/Tokyo")), app)["zone"] == "Asia/Tokyo"


def test_the_zone_follows_the_app_when_it_changes(app: Celery) -> None:
    nightly = cron("0 2 * * *")
    nightly.app = app
    assert nightly.recurrence.zone == "Europe/Berlin"
    other = Celery("other", set_as_current=False)
    nightly.app = other
    assert nightly.recurrence.zone == "UTC"
    other.close()


@pytest.mark.parametrize(
    ("source", "period_ms"),
    [
        (every(30), 30_000),
        (every(0.5), 500),
        (every(timedelta(hours=1)), 3_600_000),
        (every(minutes=5), 300_000),
        (every(days=1, hours=2, minutes=3, seconds=4, milliseconds=5), 93_784_005),
        (30, 30_000),
        (0.25, 250),
        (timedelta(minutes=2), 120_000),
        (schedule(30), 30_000),
        (schedule(timedelta(seconds=1.5)), 1_500),
    ],
)
def test_an_interval_is_anchored_where_it_is_first_stored(source: object, period_ms: int, app: Celery) -> None:
    assert spec(source, app) == {"kind": "interval", "period_ms": period_ms, "anchor_ms": NOW_MS}
    assert keeps_anchor(source)


def test_an_interval_with_an_anchor_stays_on_it(app: Celery) -> None:
    source = every(minutes=5, anchor=datetime(2026, 1, 1, tzinfo=UTC))
    assert spec(source, app)["anchor_ms"] == to_ms(datetime(2026, 1, 1, tzinfo=UTC))
    assert not keeps_anchor(source)


@pytest.mark.parametrize("wrong", [0, 0.009, -1, float("nan"), float("inf"), timedelta(milliseconds=9), "30", None, True, object()])
def test_what_is_no_interval_is_refused_with_its_value(wrong: object, app: Celery) -> None:
    with pytest.raises(InvalidSchedule):
        spec(wrong, app)


@pytest.mark.parametrize("build", [lambda: every(), lambda: every(0.001), lambda: every(5, minutes=1), lambda: every(minutes="x")])
def test_every_refuses_what_is_not_one_interval_of_at_least_10_ms(build) -> None:
    with pytest.raises(InvalidSchedule):
        build()


def test_once_refuses_a_naive_datetime_and_says_how_to_make_it_aware() -> None:
    with pytest.raises(InvalidSchedule, match="no time zone: give it one"):
        once(datetime(2026, 6, 1, 9, 0))  # noqa: DTZ001
    with pytest.raises(InvalidSchedule, match="aware datetime"):
        once("tomorrow")  # type: ignore[arg-type]


@pytest.mark.parametrize("build", [lambda: cron("61 * * * *"), lambda: cron("0 2 * * *", tz="Europe/Berlln"), lambda: rrule("FREQ=NEVER")])
def test_a_mistake_is_refused_where_it_is_written(build) -> None:
    with pytest.raises(InvalidSchedule):
        build()


@pytest.mark.parametrize("build", [cron, rrule])
@pytest.mark.parametrize("wrong", [None, 5, ["0 2 * * *"]])
def test_what_is_no_text_is_refused_with_its_value(build: Any, wrong: object) -> None:
    with pytest.raises(InvalidSchedule, match=re.escape(f"{build.__name__}() takes text, not {wrong!r}")):
        build(wrong)


def test_a_counted_rule_needs_a_start(app: Celery) -> None:
    with pytest.raises(InvalidSchedule, match="give start="):
        rrule("FREQ=DAILY;COUNT=3")
    three = rrule("FREQ=DAILY;COUNT=3", start=datetime(2026, 5, 2, 9, 30, tzinfo=ZoneInfo("Europe/Berlin")))
    assert local_slots(three, app, after=from_ms(NOW_MS), count=9) == ["2026-05-02 09:30", "2026-05-03 09:30", "2026-05-04 09:30"]


def test_a_rule_without_a_start_begins_at_a_midnight(app: Celery) -> None:
    fridays = rrule("FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=17")
    assert local_slots(fridays, app, after=from_ms(NOW_MS), count=2) == ["2026-05-29 17:00", "2026-06-26 17:00"]


def test_a_hashed_cron_field_is_seeded_by_the_entry(app: Celery) -> None:
    source = cron("H 2 * * *")
    assert spec(source, app, entry_name="a")["hash_id"] == "a"
    assert spec(cron("0 2 * * *"), app, entry_name="a")["hash_id"] == ""
    assert source.recurrence.next_after(0) is not None


def test_an_error_names_the_entry(app: Celery) -> None:
    with pytest.raises(InvalidSchedule, match="'nightly'.*tomorrow"):
        spec("tomorrow", app, entry_name="nightly")


def test_crontab_days_of_month_and_weekday_are_joined_by_and(app: Celery) -> None:
    first_monday = crontab(minute=0, hour=9, day_of_month="1-7", day_of_week="mon")
    assert spec(first_monday, app)["day_or"] is False
    assert local_slots(first_monday, app, after=from_ms(NOW_MS), count=2) == ["2026-05-04 09:00", "2026-06-01 09:00"]


@pytest.mark.parametrize(
    ("source", "expression"),
    [
        (crontab(), "* * * * *"),
        (crontab(minute="*/15", hour="*/2"), "*/15 */2 * * *"),
        (crontab(minute="*/15,7", hour="22-2"), "0,7,15,30,45 0,1,2,22,23 * * *"),
        (crontab(minute=5, hour=[3, 4], day_of_month="31"), "5 3,4 31 * *"),
        (crontab(minute={0, 30}, hour=0, month_of_year="*/3", day_of_week="sun,fri"), "0,30 0 * */3 0,5"),
        (crontab(minute="*/50", hour="*/23"), "*/50 */23 * * *"),
        (crontab(minute="*/60", hour="0-23"), "0 * * * *"),
    ],
)
def test_crontab_becomes_its_expanded_sets_and_keeps_its_rhythm(source: crontab, expression: str, app: Celery) -> None:
    assert spec(source, app)["expression"] == expression


@pytest.mark.skipif(celery.VERSION[:3] < (5, 5, 3), reason="this Celery's crontab is an hour off across a change of the zone's offset")
@pytest.mark.parametrize(
    "source",
    [
        crontab(minute="*/7", hour="1,5-8"),
        crontab(minute=0, hour=0, day_of_month="31"),
        crontab(minute=0, hour=0, day_of_month="29", month_of_year="2"),
        crontab(minute=30, hour="8-18/2", day_of_week="mon-fri"),
        crontab(minute=0, hour=12, day_of_month="13", day_of_week="fri"),
        crontab(minute="59", hour="23", month_of_year="12,1"),
    ],
)
def test_crontab_has_the_slots_that_stock_beat_gives_it(source: crontab, app: Celery) -> None:
    source.app = app
    recurrence = recurrence_of(spec(source, app), app=app)
    at_ms = NOW_MS
    for _ in range(20):
        planned = from_ms(at_ms).astimezone(app.timezone)
        source.nowfun = lambda planned=planned: planned
        expected_ms = at_ms + source.remaining_estimate(planned) // timedelta(milliseconds=1)
        at_ms = recurrence.next_after(at_ms)
        assert from_ms(at_ms) == from_ms(expected_ms)


def test_a_crontab_with_a_zone_of_its_own_keeps_it(app: Celery) -> None:
    source = crontab(minute=0, hour=9)
    source.tz = ZoneInfo("Asia/Tokyo")
    assert spec(source, app)["zone"] == "Asia/Tokyo"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (schedule(timedelta(minutes=90), relative=True), ["2026-05-01 15:00", "2026-05-01 16:00"]),
        (schedule(timedelta(hours=2), relative=True), ["2026-05-01 16:00", "2026-05-01 18:00"]),
        (schedule(timedelta(days=1), relative=True), ["2026-05-02 00:00", "2026-05-03 00:00"]),
        (schedule(timedelta(days=2), relative=True), ["2026-05-02 00:00", "2026-05-04 00:00"]),
    ],
)
def test_a_relative_interval_rounds_to_its_unit_in_the_zone_of_the_app(source: schedule, expected: list[str], app: Celery) -> None:
    assert local_slots(source, app, after=from_ms(NOW_MS), count=2) == expected
    assert not keeps_anchor(source)


def test_sunrise_comes_once_a_day_and_differs_from_day_to_day(app: Celery) -> None:
    solar = pytest.importorskip("celery.schedules").solar
    pytest.importorskip("ephem")
    source = spec(solar("sunrise", 52.5, 13.4), app)
    recurrence = recurrence_of(source, app=app)
    slots = slots_between(recurrence, NOW_MS, NOW_MS + 30 * 86_400_000, limit=100)
    assert len(slots) == 30
    assert all(86_000_000 < later - sooner < 86_800_000 for sooner, later in pairwise(slots))
    assert all(recurrence.next_after(slot) == following for slot, following in pairwise(slots))


class Tides(BaseSchedule):
    """An own class: a slot each 12 h 25 min from the epoch."""

    PERIOD = timedelta(hours=12, minutes=25)
    inclusive = False

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        passed = (last_run_at - datetime(1970, 1, 1, tzinfo=UTC)) % self.PERIOD
        if self.inclusive and not passed:
            return last_run_at - self.now()
        return last_run_at + self.PERIOD - passed - self.now()

    def __repr__(self) -> str:
        return "<tides>"


def test_an_own_schedule_class_is_asked_with_the_planned_time_as_now(app: Celery) -> None:
    source = Tides(nowfun=None, app=app)
    assert spec(source, app) == {"kind": "custom", "repr": "<tides>"}
    recurrence = recurrence_of(spec(source, app), app=app, schedule=source)
    slots = slots_between(recurrence, NOW_MS, 2**62, limit=50)
    assert {later - sooner for sooner, later in pairwise(slots)} == {44_700_000}
    assert source.nowfun is None


def test_an_own_class_that_answers_with_the_same_moment_is_asked_again_a_little_later(app: Celery) -> None:
    source = Tides(app=app)
    source.inclusive = True
    slots = slots_between(recurrence_of(spec(source, app), app=app, schedule=source), NOW_MS, 2**62, limit=5)
    assert {later - sooner for sooner, later in pairwise(slots)} == {44_700_000}


def test_an_own_class_that_stands_still_is_an_error_not_a_loop(app: Celery) -> None:
    class Stuck(Tides):
        def remaining_estimate(self, last_run_at: datetime) -> timedelta:
            return timedelta(days=-400)

    source = Stuck(app=app)
    with pytest.raises(InvalidSchedule, match="beyond last_run_at"):
        recurrence_of(spec(source, app), app=app, schedule=source).next_after(NOW_MS)


def test_an_own_class_may_say_never(app: Celery) -> None:
    class Over(Tides):
        def remaining_estimate(self, last_run_at: datetime) -> None:
            return None

    source = Over(app=app)
    assert recurrence_of(spec(source, app), app=app, schedule=source).next_after(NOW_MS) is None


def test_a_crontab_that_decides_in_its_own_code_is_an_own_class(app: Celery) -> None:
    class SkipsSundays(crontab):
        def remaining_estimate(self, last_run_at: datetime) -> timedelta:
            return super().remaining_estimate(last_run_at)

    assert spec(SkipsSundays(), app)["kind"] == "custom"


def test_an_own_class_without_its_object_has_no_slots(app: Celery) -> None:
    with pytest.raises(InvalidSchedule, match="own class"):
        recurrence_of({"kind": "custom", "repr": "<tides>"}, app=app)
