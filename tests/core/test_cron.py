"""What a cron expression may say, and when it fires where the clock keeps still."""

import pickle
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from cronsim import CronSim

from celery_tw.core.cron import Cron
from celery_tw.errors import InvalidSchedule


def ms(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=UTC).timestamp()) * 1000


def slots(cron: Cron, after_ms: int, count: int) -> list[str]:
    found = []
    for _ in range(count):
        next_ms = cron.next_after(after_ms)
        assert next_ms is not None
        after_ms = next_ms
        found.append(datetime.fromtimestamp(after_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S"))
    return found


def days(expression: str, count: int, *, year: int = 2026, **options: object) -> list[str]:
    return [slot[:10] for slot in slots(Cron(expression, "UTC", **options), ms(year, 1, 1) - 1, count)]


def test_a_slot_is_strictly_after_the_given_moment():
    every_minute = Cron("* * * * *", "UTC")
    assert every_minute.next_after(0) == 60_000
    assert every_minute.next_after(59_999) == 60_000
    assert every_minute.next_after(-1) == 0


def test_six_fields_put_the_seconds_first():
    assert slots(Cron("*/20 0 12 * * *", "UTC"), ms(2026, 5, 1, 12, 0, 1), 3) == [
        "2026-05-01 12:00:20",
        "2026-05-01 12:00:40",
        "2026-05-02 12:00:00",
    ]


def test_names_are_read_in_any_case():
    assert days("0 0 1 Jan,DEC *", 3) == ["2026-01-01", "2026-12-01", "2027-01-01"]
    assert days("0 0 * * mon-TUE", 3) == ["2026-01-05", "2026-01-06", "2026-01-12"]


def test_sunday_is_0_and_7():
    assert days("0 0 * * 0", 5) == days("0 0 * * 7", 5) == days("0 0 * * SUN", 5)


@pytest.mark.parametrize(
    ("alias", "plain"),
    [("@hourly", "0 * * * *"), ("@daily", "0 0 * * *"), ("@WEEKLY", "0 0 * * 0"), ("@monthly", "0 0 1 * *"), ("@yearly", "0 0 1 1 *")],
)
def test_an_alias_means_its_plain_expansion_even_with_a_hash_id(alias: str, plain: str):
    assert slots(Cron(alias, "UTC", hash_id="report"), 0, 5) == slots(Cron(plain, "UTC"), 0, 5)


def test_l_is_the_last_day_of_the_month():
    assert days("0 0 L * *", 3, year=2028) == ["2028-01-31", "2028-02-29", "2028-03-31"]
    assert days("0 0 15,L 2 *", 2) == ["2026-02-15", "2026-02-28"]


def test_l_before_a_weekday_is_its_last_one_in_the_month():
    assert days("0 0 * * L5", 3) == ["2026-01-30", "2026-02-27", "2026-03-27"]


def test_a_number_sign_picks_one_weekday_of_the_month():
    assert days("0 0 * * MON#1,FRI#5", 4) == ["2026-01-05", "2026-01-30", "2026-02-02", "2026-03-02"]


def test_a_number_sign_after_a_range_of_names_picks_each_of_its_weekdays():
    assert days("0 0 * * SUN-SAT#2", 8) == [*(f"2026-01-{day:02}" for day in range(8, 15)), "2026-02-08"]
    assert days("0 0 * * MON-FRI#1", 6) == ["2026-01-01", "2026-01-02", "2026-01-05", "2026-01-06", "2026-01-07", "2026-02-02"]


def test_w_is_the_nearest_working_day_in_the_same_month():
    assert days("0 0 15W * *", 4) == ["2026-01-15", "2026-02-16", "2026-03-16", "2026-04-15"]
    assert days("0 0 1W 8,11 *", 2) == ["2026-08-03", "2026-11-02"]
    assert days("0 0 31W 1,5 *", 2) == ["2026-01-30", "2026-05-29"]


def test_two_restricted_day_fields_are_joined_by_or_or_by_and():
    assert days("0 0 13 * FRI", 3) == ["2026-01-02", "2026-01-09", "2026-01-13"]
    assert days("0 0 13 * FRI", 3, day_or=False) == ["2026-02-13", "2026-03-13", "2026-11-13"]
    assert days("0 0 1 * MON#2", 4) == ["2026-01-01", "2026-01-12", "2026-02-01", "2026-02-09"]


def test_a_day_field_with_a_star_is_not_restricted():
    assert days("0 0 */2 * MON", 3) == ["2026-01-05", "2026-01-19", "2026-02-09"]
    assert days("0 0 ? * MON", 1) == days("0 0 * * MON", 1) == ["2026-01-05"]


def test_h_spreads_by_the_hash_id_and_stays_put():
    spread = {slots(Cron("H H * * *", "UTC", hash_id=f"entry {n}"), 0, 1)[0] for n in range(20)}
    assert len(spread) > 15
    assert Cron("H H * * *", "UTC", hash_id="a").next_after(0) == Cron("H H * * *", "UTC", hash_id="a").next_after(0)
    assert all(slot[14:16] < "30" for slot in slots(Cron("H(0-29) * * * *", "UTC", hash_id="a"), 0, 30))


def test_the_leap_day_waits_for_its_year():
    assert days("0 0 29 2 *", 3, year=2026) == ["2028-02-29", "2032-02-29", "2036-02-29"]
    assert days("0 0 29 2 *", 2, year=2097) == ["2104-02-29", "2108-02-29"]


def test_a_leap_day_on_a_given_weekday_may_take_forty_years():
    assert days("0 0 29 2 MON", 3, year=2029, day_or=False) == ["2044-02-29", "2072-02-29", "2112-02-29"]


def test_time_ends_with_the_year_9998():
    daily = Cron("0 0 * * *", "Asia/Tokyo")
    assert daily.next_after(ms(9998, 12, 30, 14)) == ms(9998, 12, 30, 15)
    assert daily.next_after(ms(9998, 12, 31, 15)) is None
    assert daily.next_after(ms(9999, 1, 1)) is None
    assert daily.next_after(10**18) is None
    assert Cron("0 0 29 2 *", "UTC").next_after(ms(9997, 1, 1)) is None


def test_time_begins_with_the_year_1():
    assert Cron("0 0 * * *", "Asia/Tokyo").next_after(-(10**17)) is not None


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "   ",
        "* * * *",
        "* * * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 8",
        "*/0 * * * *",
        "5/ * * * *",
        "1_0 * * * *",
        "٣ * * * *",
        "a b c d e",
        "@reboot",
        "0 0 * * MON#6",
        "0 0 * * MON,TUE#1",
        "0 0 15W,3 * *",
        "R * * * *",
        "R(0-9) * * * *",
        "H * * * *",
        "0 0 30 2 *",
        "0 0 31 2,4,6,9,11 *",
        "* " * 200,
        ",".join(["1"] * 65) + " * * * *",
        None,
        5,
        b"* * * * *",
        ["* * * * *"],
    ],
)
def test_what_cannot_be_a_schedule_is_refused_by_its_value(expression: object):
    with pytest.raises(InvalidSchedule) as caught:
        Cron(expression, "UTC")
    shown = repr(expression)
    assert shown[:20] in str(caught.value)


def test_a_refusal_says_what_to_do():
    with pytest.raises(InvalidSchedule, match="use H with a hash id"):
        Cron("R * * * *", "UTC")
    with pytest.raises(InvalidSchedule, match="check its day and month"):
        Cron("0 0 30 2 *", "UTC")
    with pytest.raises(InvalidSchedule, match="never fires in America/New_York"):
        Cron("*/5 2 8-14 3 SUN", "America/New_York", day_or=False)


@pytest.mark.parametrize("options", [{"day_or": 1}, {"day_or": None}, {"hash_id": None}, {"hash_id": b"x"}])
def test_options_of_another_type_are_refused(options: dict[str, object]):
    with pytest.raises(InvalidSchedule, match=next(iter(options))):
        Cron("* * * * *", "UTC", **options)


def test_an_unknown_zone_is_refused_with_the_nearest_name():
    with pytest.raises(InvalidSchedule, match="did you mean 'Europe/Berlin'"):
        Cron("* * * * *", "Europe/Berln")
    with pytest.raises(InvalidSchedule, match="America/New_York"):
        Cron("* * * * *", "america/new_york")


@pytest.mark.parametrize("name", ["", "Europe", "../etc/passwd", "a\0b", "x" * 5000, None, 3, ["UTC"]])
def test_a_name_that_is_no_zone_is_refused(name: object):
    with pytest.raises(InvalidSchedule, match="time zone"):
        Cron("* * * * *", name)


def test_a_cron_is_a_plain_value():
    cron = Cron("0 9 * * 1-5", "Europe/Berlin")
    assert cron == Cron("0 9 * * 1-5", "Europe/Berlin")
    assert hash(cron) == hash(Cron("0 9 * * 1-5", "Europe/Berlin"))
    assert cron != Cron("0 9 * * 1-5", "Europe/Paris")
    assert pickle.loads(pickle.dumps(cron)) == cron
    assert pickle.loads(pickle.dumps(cron)).next_after(0) == cron.next_after(0)
    assert "_stepper" not in repr(cron)


def test_the_order_of_questions_does_not_change_the_answers():
    cron = Cron("*/7 3-9 * * *", "Europe/Berlin")
    moments = [ms(2026, month, 28, hour, 59) for month in (3, 10, 1, 12) for hour in (0, 2, 23)]
    forwards = [cron.next_after(moment) for moment in moments]
    backwards = [cron.next_after(moment) for moment in reversed(moments)]
    assert forwards == backwards[::-1]


@pytest.mark.parametrize(
    "expression",
    [
        "* * * * *",
        "*/5 * * * *",
        "7-59/13 3,5,22 * * *",
        "0 9 * * 1-5",
        "30 6 1,15 * *",
        "0 0 L * *",
        "0 12 13 * 5",
        "15 10 * * 3#2",
        "0 0 * 2,6 *",
        "59 23 31 * *",
        "0 0 29 2 *",
        "0 4 8-14 * 6",
        "1 1 */3 * 2",
    ],
)
def test_slots_in_utc_are_those_of_cronsim(expression: str):
    start = datetime(2026, 1, 1, tzinfo=UTC)
    oracle = CronSim(expression, start)
    assert slots(Cron(expression, "UTC"), ms(2026, 1, 1), 300) == [next(oracle).strftime("%Y-%m-%d %H:%M:%S") for _ in range(300)]


def test_slots_ascend_and_match_their_seconds():
    found = slots(Cron("13,47 */7 * * * *", "Asia/Kathmandu"), ms(2026, 1, 1), 500)
    assert all(earlier < later for earlier, later in pairwise(found))
    assert {slot[-2:] for slot in found} == {"13", "47"}
    assert all((datetime.fromisoformat(slot) + timedelta(hours=5, minutes=45)).minute % 7 == 0 for slot in found)
