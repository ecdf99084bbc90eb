"""The last value on each side of a limit, and the defaults: what a slip by one would change."""

from datetime import UTC, datetime

import pytest

from celery_tw.core.allowed import AllowedTasks
from celery_tw.core.bounds import jitter_offset_ms
from celery_tw.core.command import Command, Fire
from celery_tw.core.cron import Cron
from celery_tw.core.cron_fields import parse_cron
from celery_tw.core.day_times import DayTimes, lowest, mask_of, values_of
from celery_tw.core.definition import Definition
from celery_tw.core.identity import FireIds
from celery_tw.core.interval import SHORTEST_PERIOD_MS, Interval
from celery_tw.core.misfire import COUNT_LIMIT, Misfire, plan
from celery_tw.core.once import Once
from celery_tw.core.overlap import POLICIES
from celery_tw.core.recurrence import LATEST_MS, newest_between
from celery_tw.core.rrule import RRule
from celery_tw.errors import InvalidEntry, InvalidSchedule
from tests.calendars.oracle import read_pattern

YEARS = range(2020, 2048)


def test_the_latest_moment_is_the_last_millisecond_of_9998():
    assert datetime.fromtimestamp((LATEST_MS + 1) / 1000, UTC) == datetime(9999, 1, 1, tzinfo=UTC)


def test_an_interval_takes_its_shortest_period_and_its_latest_anchor():
    assert Interval(SHORTEST_PERIOD_MS).next_after(0) == 10
    assert Interval(LATEST_MS, anchor_ms=-LATEST_MS).next_after(-1) == 0
    assert Interval(1000, anchor_ms=LATEST_MS).next_after(LATEST_MS - 1) == LATEST_MS
    assert Interval(1000, anchor_ms=LATEST_MS).next_after(LATEST_MS) is None
    for period_ms, anchor_ms in ((SHORTEST_PERIOD_MS - 1, 0), (LATEST_MS + 1, 0), (1000, LATEST_MS + 1), (1.0, 0), (1000, 0.0), (True, 0)):
        with pytest.raises(InvalidSchedule):
            Interval(period_ms, anchor_ms)


def test_an_interval_has_no_slots_in_nothing():
    assert Interval(10).count(10, 10) == 0
    assert Interval(10).count(20, 10) == 0
    assert Interval(10).count(9, 10) == 1


def test_a_moment_may_be_the_latest_one():
    assert Once(LATEST_MS).next_after(0) == LATEST_MS
    with pytest.raises(InvalidSchedule):
        Once(LATEST_MS + 1)


def test_jitter_reaches_up_to_the_slot_after_and_not_to_it():
    offsets = {jitter_offset_ms(2, slot_ms, jitter_ms=1000, next_slot_ms=slot_ms + 3) for slot_ms in range(200)}
    assert offsets == {0, 1, 2}
    assert {jitter_offset_ms(2, slot_ms, jitter_ms=1, next_slot_ms=None) for slot_ms in range(200)} == {0, 1}
    assert {jitter_offset_ms(2, slot_ms, jitter_ms=1000, next_slot_ms=slot_ms + 2) for slot_ms in range(200)} == {0, 1}


def test_only_a_push_and_a_claim_carry_a_message():
    carries = {word: Command(word, b"k", b"").carries_a_message for word in ("lpush", "claim", "publish", "pexpire")}
    assert carries == {"lpush": True, "claim": True, "publish": False, "pexpire": False}


def test_a_definition_has_the_defaults_of_the_settings():
    definition = Definition(name="e", signature={"task": "shop.report"}, schedule={})

    assert definition.task == "shop.report"
    assert (definition.misfire, definition.tolerance_ms, definition.jitter_ms, definition.note) == (Misfire.latest(), 5000, 0, "")
    assert (definition.source, definition.local, definition.delivery) == ("api", False, "at_least_once")


def test_the_fires_of_an_entry_are_counted_when_they_may_not_overlap():
    counted = {policy: Definition(name="e", signature={}, schedule={}, overlap=policy).counted for policy in POLICIES}

    assert counted == {"allow": False, "skip": True, "buffer_one": True, "cancel_previous": True}
    assert not Definition(name="e", signature={}, schedule={}).counted
    assert not Fire("id", 0, "e").counted


def test_a_fire_id_without_a_generation_is_that_of_generation_0():
    ids = FireIds("shop")

    assert ids.fire_id(2, 3) == ids.fire_id(2, 3, 0) != ids.fire_id(2, 3, 1)


def test_catching_up_takes_ten_slots_a_second_and_a_thousand_in_all_unless_told():
    assert Misfire.catch_up() == Misfire("catch_up", rate=10, limit=1000)
    assert Misfire.catch_up(rate=0.5, limit=1).rate == 0.5
    for options in ({"rate": 0}, {"rate": float("inf")}, {"rate": True}, {"limit": 0}, {"limit": True}, {"limit": 1.0}):
        with pytest.raises(InvalidEntry):
            Misfire.catch_up(**options)


@pytest.mark.parametrize(("missed", "at_least"), [(COUNT_LIMIT, False), (COUNT_LIMIT + 1, True)])
def test_skipped_slots_are_counted_exactly_up_to_the_limit(missed: int, at_least: bool):
    skipped = plan(Interval(1000), mark_ms=0, now_ms=missed * 1000 + 1, tolerance_ms=0, misfire=Misfire.skip()).skipped

    assert skipped is not None
    assert (skipped.count, skipped.at_least, skipped.from_ms, skipped.to_ms) == (COUNT_LIMIT, at_least, 1000, missed * 1000)


def test_the_slot_right_before_the_newest_is_among_the_skipped():
    done = plan(Interval(10), mark_ms=0, now_ms=1030, tolerance_ms=0, misfire=Misfire.latest())

    assert done.fire_ms == 1030
    assert done.skipped is not None
    assert (done.skipped.from_ms, done.skipped.to_ms, done.skipped.count) == (10, 1020, 102)


def test_the_newest_slots_are_found_however_dense_they_are():
    for limit in (1, 2, 3, 150):
        assert newest_between(Cron("* * * * * *", "UTC"), 0, 500_000, limit=limit) == list(range(501_000 - limit * 1000, 501_000, 1000))


def test_day_times_count_and_number_what_they_hold():
    times = DayTimes(hours=mask_of([1, 23]), minutes=mask_of([0, 30, 59]), seconds=mask_of([5, 6, 7, 8]))
    found = [times.at(position) for position in range(len(times))]

    assert len(times) == 24
    assert found == sorted(h * 3600 + m * 60 + s for h in (1, 23) for m in (0, 30, 59) for s in (5, 6, 7, 8))
    assert times.first_from(0) == times.first_from(found[0]) == found[0]
    assert times.first_from(found[0] + 1) == found[1]
    assert (times.first_from(found[-1]), times.first_from(found[-1] + 1)) == (found[-1], -1)
    assert [lowest(mask_of([n, 40])) for n in (0, 1, 7)] == [0, 1, 7]
    assert values_of(mask_of([0, 3, 59])) == [0, 3, 59]


def days_of(expression: str) -> list[int]:
    """Return the days that match, through the masks by kind of month."""
    fields = parse_cron(expression, day_or=True, hash_id="")
    days = []
    for year in YEARS:
        for month in range(1, 13):
            first = datetime(year, month, 1, tzinfo=UTC)
            length = (datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC) - first).days
            mask = fields.days(month=month, length=length, first_weekday=first.isoweekday() % 7)
            days += [int(first.timestamp()) // 86_400 + day for day in range(length) if mask >> day & 1]
            assert mask < 1 << length
    return days


@pytest.mark.parametrize(
    "days",
    [
        *(f"* * {weekday}#{nth}" for weekday in (0, 3, 6) for nth in range(1, 6)),
        *(f"* * L{weekday}" for weekday in range(7)),
        "* * *", "* * 0", "* * 7", "* * 1-5", "1 * *", "31 * *", "29 2 *", "L * *", "L 2 *", "13 * 5",
        "*/2 * 1", "1,15 1,12 0", "1-7 * 1", "* 2-4 *", "L * 1",
        "30 1,3-12 *", "* 12 *", "* 1 *", "31 * 5", "30,31 * 0,6",
    ],
)  # fmt: skip
def test_every_day_of_28_years_is_that_of_a_look_at_each(days: str):
    pattern = read_pattern(f"0 0 {days}", YEARS)
    inside = range(int(datetime(2020, 1, 1, tzinfo=UTC).timestamp()) // 86_400, int(datetime(2048, 1, 1, tzinfo=UTC).timestamp()) // 86_400)

    assert days_of(f"0 0 {days}") == sorted(day for day in pattern.days if day in inside)


@pytest.mark.parametrize(
    ("expression", "slots"),
    [
        ("0 0 1W 8 *", ["2026-08-03"]),  # a Saturday, the next Monday being in the month
        ("0 0 15W 8 *", ["2026-08-14"]),  # a Saturday
        ("0 0 16W 8 *", ["2026-08-17"]),  # a Sunday
        ("0 0 31W 5 *", ["2026-05-29"]),  # a Sunday, and the last day
        ("0 0 12W 8 *", ["2026-08-12"]),
        ("0 0 2W 5 *", ["2026-05-01"]),  # a Saturday, the Friday before being the first
        ("0 0 30W 8 *", ["2026-08-31"]),  # a Sunday, the Monday after being the last
    ],
)
def test_the_nearest_weekday_stays_in_its_month(expression: str, slots: list[str]):
    slot_ms = Cron(expression, "UTC").next_after(int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * 1000)

    assert slot_ms is not None
    assert [datetime.fromtimestamp(slot_ms / 1000, UTC).date().isoformat()] == slots


@pytest.mark.parametrize("month", [4, 6, 9, 11])
def test_there_is_no_31st_in_a_month_of_30_days(month: int):
    with pytest.raises(InvalidSchedule, match="never fires: no month has such a day"):
        Cron(f"0 0 31 {month} *", "UTC")
    assert Cron(f"0 0 30 {month} *", "UTC")


@pytest.mark.parametrize("month", [1, 3, 5, 7, 8, 10, 12])
def test_there_is_a_31st_in_the_others(month: int):
    assert Cron(f"0 0 31 {month} *", "UTC")


def test_february_has_29_days_at_most():
    assert Cron("0 0 29 2 *", "UTC")
    with pytest.raises(InvalidSchedule, match="never fires: no month has such a day"):
        Cron("0 0 30 2 *", "UTC")


def test_a_weekday_by_number_alone_is_not_mixed_with_one_that_is_counted():
    for field in ("1#1,2", "2,1#1", "L1,2"):
        with pytest.raises(InvalidSchedule, match="mixes"):
            Cron(f"0 0 * * {field}", "UTC")
    assert Cron("0 0 * * 1#1,2#2", "UTC")


def test_one_h_among_others_needs_a_hash_id():
    for field in ("H,5", "5,H", "H"):
        with pytest.raises(InvalidSchedule, match="hash id"):
            Cron(f"{field} * * * *", "UTC")
    assert Cron("H * * * *", "UTC", hash_id="e")


def test_one_r_among_others_is_random_too():
    for field in ("R,5", "5,R", "R", "5,R(0-9)"):
        with pytest.raises(InvalidSchedule, match="random"):
            Cron(f"{field} * * * *", "UTC", hash_id="e")


def test_an_expression_may_be_as_long_as_the_limit_and_no_longer():
    expression = "0 0 1,15 * *"
    padded = expression.ljust(256)
    assert Cron(padded, "UTC")
    with pytest.raises(InvalidSchedule, match="characters"):
        Cron(padded + " ", "UTC")
    for blank in ("", "   "):
        with pytest.raises(InvalidSchedule, match="characters"):
            Cron(blank, "UTC")


def test_a_list_may_be_as_long_as_the_limit_and_no_longer():
    assert Cron(f"{','.join(['5'] * 64)} * * * *", "UTC")
    with pytest.raises(InvalidSchedule, match="lists 65 values, at most 64"):
        Cron(f"{','.join(['5'] * 65)} * * * *", "UTC")


def test_the_last_second_minute_and_hour_are_slots():
    last = int(datetime(2026, 1, 1, 23, 59, 58, tzinfo=UTC).timestamp()) * 1000
    assert Cron("* * * * * *", "UTC").next_after(last) == last + 1000
    assert Cron("59 59 23 * * *", "UTC").next_after(last) == last + 1000
    assert Cron("* * * * * *", "UTC").next_after(last + 1000) == last + 2000


@pytest.mark.parametrize(
    ("expression", "last", "following"),
    [
        ("0 * 1 * *", (1, 1, 23, 0, 0), (2, 1, 0, 0, 0)),
        ("* 5 * * *", (1, 1, 5, 59, 0), (1, 2, 5, 0, 0)),
        ("* 0 5 * * *", (1, 1, 5, 0, 59), (1, 2, 5, 0, 0)),
        ("0 0 1 * *", (12, 1, 0, 0, 0), (13, 1, 0, 0, 0)),
    ],
)
def test_after_the_last_hour_minute_or_second_there_is_no_other(expression: str, last: tuple[int, ...], following: tuple[int, ...]):
    def ms(month: int, *rest: int) -> int:
        return int(datetime(2026 + month // 13, (month - 1) % 12 + 1, *rest, tzinfo=UTC).timestamp()) * 1000

    assert Cron(expression, "UTC").next_after(ms(*last)) == ms(*following)


def test_what_only_a_february_of_28_days_has_is_found():
    slot_ms = Cron("0 0 22 2 L5", "UTC", day_or=False).next_after(int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * 1000)

    assert slot_ms == int(datetime(2030, 2, 22, tzinfo=UTC).timestamp()) * 1000


def test_equal_rules_are_equal_and_show_what_they_are():
    assert Cron("0 0 * * *", "UTC") == Cron("0 0 * * *", "UTC") != Cron("0 0 * * *", "Europe/Berlin")
    assert repr(Cron("0 0 * * *", "UTC")) == "Cron(expression='0 0 * * *', zone='UTC', day_or=True, hash_id='')"
    assert repr(RRule("FREQ=DAILY", "UTC", 0)) == "RRule(rule='FREQ=DAILY', zone='UTC', start_ms=0)"


def test_the_body_of_a_chord_is_looked_at_wherever_celery_keeps_it():
    assert AllowedTasks(("a",)).objection({"task": "a", "chord": {"task": "b"}}) is not None
    assert AllowedTasks(("a",)).objection({"task": "a", "options": 5}) is None
