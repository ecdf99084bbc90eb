"""When a cron job fires while the clock is changed.

The oracle looks at every instant, minute by minute: it knows neither spans nor bit masks. Set ``CELERY_TW_ALL_ZONES=1`` to run it on
every zone of the tz database and more years (minutes instead of seconds).
"""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from cronsim import CronSim

from celery_tw.core.cron import Cron
from celery_tw.core.zones import first_instant, first_unseen_wall, span_at

ALL_ZONES = bool(os.environ.get("CELERY_TW_ALL_ZONES"))
SAMPLE = [
    "Africa/Cairo",
    "Africa/Casablanca",
    "Africa/El_Aaiun",
    "America/Asuncion",
    "America/Caracas",
    "America/Havana",
    "America/New_York",
    "America/Nuuk",
    "America/Santiago",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Antarctica/Casey",
    "Antarctica/Troll",
    "Asia/Amman",
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Kathmandu",
    "Asia/Pyongyang",
    "Asia/Tehran",
    "Australia/Lord_Howe",
    "Europe/Dublin",
    "Europe/London",
    "Europe/Volgograd",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Pacific/Easter",
    "UTC",
]
ZONES = sorted(available_timezones() - {"localtime", "Factory"}) if ALL_ZONES else SAMPLE
YEARS = range(2000, 2040) if ALL_ZONES else (2011, 2018, 2026)
FIXED = {
    "0 0 * * *": ((0, 0),),
    "30 1 * * *": ((1, 30),),
    "30 2 * * *": ((2, 30),),
    "15,45 0-3 * * *": tuple((hour, minute) for hour in range(4) for minute in (15, 45)),
    "59 23 * * *": ((23, 59),),
}
RHYTHM = {
    "* * * * *": (range(60), range(24)),
    "0 * * * *": ((0,), range(24)),
    "*/30 0-3 * * *": ((0, 30), range(4)),
    "10 */2 * * *": ((10,), range(0, 24, 2)),
}
MINUTE = timedelta(minutes=1)


def local(cron: Cron, after: datetime, count: int) -> list[str]:
    found, after_ms = [], int(after.timestamp() * 1000)
    for _ in range(count):
        next_ms = cron.next_after(after_ms)
        assert next_ms is not None
        after_ms = next_ms
        found.append(datetime.fromtimestamp(after_ms / 1000, ZoneInfo(cron.zone)).strftime("%d %H:%M %Z"))
    return found


def new_york(expression: str, day: datetime, count: int) -> list[str]:
    return local(Cron(expression, "America/New_York"), day.replace(tzinfo=ZoneInfo("America/New_York")) - MINUTE, count)


SPRING, AUTUMN = datetime(2026, 3, 8), datetime(2026, 11, 1)  # noqa: DTZ001 - wall times of New York


def test_a_fixed_time_job_swallowed_by_the_gap_fires_once_at_its_end():
    assert new_york("30 2 * * *", SPRING, 2) == ["08 03:00 EDT", "09 02:30 EDT"]
    assert new_york("0 2 * * *", SPRING, 2) == ["08 03:00 EDT", "09 02:00 EDT"]
    assert new_york("15,30 2 * * *", SPRING, 2) == ["08 03:00 EDT", "09 02:15 EDT"]
    assert new_york("0 2,3 * * *", SPRING, 2) == ["08 03:00 EDT", "09 02:00 EDT"]
    assert new_york("*/10 30 2 * * *", SPRING, 2) == ["08 03:00 EDT", "09 02:30 EDT"]


def test_a_rhythm_never_fires_inside_the_gap():
    assert new_york("*/30 1-3 * * *", SPRING, 5) == ["08 01:00 EST", "08 01:30 EST", "08 03:00 EDT", "08 03:30 EDT", "09 01:00 EDT"]
    assert new_york("*/30 2 * * *", SPRING, 1) == ["09 02:00 EDT"]
    assert new_york("0 * * * *", SPRING, 4) == ["08 00:00 EST", "08 01:00 EST", "08 03:00 EDT", "08 04:00 EDT"]


def test_a_fixed_time_job_in_the_fold_fires_on_the_first_pass_only():
    assert new_york("30 1 * * *", AUTUMN, 2) == ["01 01:30 EDT", "02 01:30 EST"]
    assert new_york("0 0-2 * * *", AUTUMN, 4) == ["01 00:00 EDT", "01 01:00 EDT", "01 02:00 EST", "02 00:00 EST"]


def test_a_rhythm_fires_on_both_passes_of_the_fold():
    assert new_york("0 * * * *", AUTUMN, 4) == ["01 00:00 EDT", "01 01:00 EDT", "01 01:00 EST", "01 02:00 EST"]
    assert new_york("*/30 1 * * *", AUTUMN, 5) == ["01 01:00 EDT", "01 01:30 EDT", "01 01:00 EST", "01 01:30 EST", "02 01:00 EST"]


def test_a_question_asked_within_the_second_pass_waits_for_the_next_day():
    second_pass = datetime(2026, 11, 1, 6, 10, tzinfo=UTC)  # 01:10 EST
    assert local(Cron("30 1 * * *", "America/New_York"), second_pass, 1) == ["02 01:30 EST"]
    assert local(Cron("*/30 1 * * *", "America/New_York"), second_pass, 1) == ["01 01:30 EST"]


def test_lord_howe_moves_its_clock_by_half_an_hour():
    spring, autumn = datetime(2026, 10, 3, 15, 20, tzinfo=UTC), datetime(2026, 4, 4, 14, 20, tzinfo=UTC)
    assert local(Cron("15 2 * * *", "Australia/Lord_Howe"), spring, 2) == ["04 02:30 +11", "05 02:15 +11"]
    assert local(Cron("*/15 2 * * *", "Australia/Lord_Howe"), spring, 2) == ["04 02:30 +11", "04 02:45 +11"]
    assert local(Cron("45 1 * * *", "Australia/Lord_Howe"), autumn, 2) == ["05 01:45 +11", "06 01:45 +1030"]
    assert local(Cron("*/15 1 * * *", "Australia/Lord_Howe"), autumn, 4) == [
        "05 01:30 +11",
        "05 01:45 +11",
        "05 01:30 +1030",
        "05 01:45 +1030",
    ]


def test_apia_skipped_a_day_at_the_date_line():
    before = datetime(2011, 12, 30, 5, 0, tzinfo=UTC)  # 29 December 19:00, then 31 December 00:00
    assert local(Cron("0 9 * * *", "Pacific/Apia"), before, 2) == ["31 00:00 +14", "31 09:00 +14"]
    assert local(Cron("0 */6 * * *", "Pacific/Apia"), before, 2) == ["31 00:00 +14", "31 06:00 +14"]
    assert local(Cron("0 9 30 * *", "Pacific/Apia"), before, 2) == ["31 00:00 +14", "30 09:00 +14"]


@pytest.mark.parametrize("name", ["America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Monrovia", "UTC"])
def test_spans_meet_without_a_hole_and_agree_with_zoneinfo(name: str):
    instant_s, where = span_at(name, -3_000_000_000).start_s, ZoneInfo(name)
    while instant_s < 5_000_000_000:
        span = span_at(name, instant_s)
        assert span.start_s == instant_s
        for second in (span.start_s, span.end_s - 1):
            assert datetime.fromtimestamp(second, where).utcoffset() == timedelta(seconds=span.offset_s)
        instant_s = span.end_s


def test_a_wall_time_of_a_fold_means_its_first_pass():
    autumn_s = int(datetime(2026, 11, 1, 6, tzinfo=UTC).timestamp())
    assert first_unseen_wall("America/New_York", autumn_s + 600) == autumn_s - 4 * 3600
    assert first_instant("America/New_York", autumn_s - 4 * 3600 - 1800) == autumn_s - 1800


def oracle_minutes(where: ZoneInfo, start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime, datetime]]:
    """Yield (instant, wall time, greatest wall time seen before) for each minute."""
    seen = (start - MINUTE).astimezone(where).replace(tzinfo=None)
    while start < end:
        wall = start.astimezone(where).replace(tzinfo=None)
        yield start, wall, seen
        seen = max(seen, wall)
        start += MINUTE


def oracle_rhythm(fields: tuple, minutes: list) -> list[datetime]:
    return [instant for instant, wall, _ in minutes if wall.minute in fields[0] and wall.hour in fields[1]]


def oracle_fixed(times: tuple, minutes: list) -> list[datetime]:
    """Fire at the first instant that shows a wall time not seen before with one of *times* passed on the way."""
    fired = []
    for instant, wall, seen in minutes:
        passed = seen + MINUTE
        while passed <= wall:
            if (passed.hour, passed.minute) in times:
                fired.append(instant)
                break
            passed += MINUTE
    return fired


def changes(name: str, year: int) -> list[datetime]:
    """Return the moments in *year* at which the offset changes, to the hour, by a plain look at each."""
    where, hour = ZoneInfo(name), datetime(year, 1, 1, tzinfo=UTC)
    hours = [hour + timedelta(hours=n) for n in range(24 * 365)]
    offsets = [moment.astimezone(where).utcoffset() for moment in hours]
    return [later for later, (before, after) in zip(hours[1:], pairwise(offsets), strict=True) if before != after]


@pytest.mark.parametrize("name", ZONES)
def test_every_slot_around_a_change_is_that_of_a_scan_of_all_minutes(name: str):
    for year in YEARS:
        for change in changes(name, year):
            start, end = change - timedelta(hours=5), change + timedelta(hours=30)
            minutes = list(oracle_minutes(ZoneInfo(name), start, end))
            for expression, times in FIXED.items():
                assert between(Cron(expression, name), start, end) == oracle_fixed(times, minutes), (expression, change)
            for expression, fields in RHYTHM.items():
                assert between(Cron(expression, name), start, end) == oracle_rhythm(fields, minutes), (expression, change)


def between(cron: Cron, start: datetime, end: datetime) -> list[datetime]:
    found, after_ms = [], int(start.timestamp() * 1000) - 1
    while (next_ms := cron.next_after(after_ms)) is not None and next_ms < end.timestamp() * 1000:
        found.append(datetime.fromtimestamp(next_ms / 1000, UTC))
        after_ms = next_ms
    return found


@pytest.mark.parametrize("name", ["America/New_York", "Europe/London", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Beirut"])
@pytest.mark.parametrize("expression", ["30 2 * * *", "0 0 * * *", "30 1 * * *", "15 0-3 * * 0", "5 * * * *", "0 9 * * 1-5", "0 3 L * *"])
def test_a_year_of_slots_is_that_of_cronsim(name: str, expression: str):
    start, end = datetime(2018, 1, 1, tzinfo=UTC), datetime(2019, 1, 1, tzinfo=UTC)
    expected = []
    for slot in CronSim(expression, start.astimezone(ZoneInfo(name))):
        instant = slot.astimezone(UTC)
        if instant >= end:
            break
        if not expected or instant > expected[-1]:  # cronsim repeats the end of a gap when two jobs meet there
            expected.append(instant)
    assert between(Cron(expression, name), start + MINUTE, end) == [slot for slot in expected if slot > start]
