"""When a cron job fires while the clock is changed: each rule in one example. ``test_calendars.py`` compares all zones with a scan."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from celery_tw.core.cron import Cron
from celery_tw.core.zones import END_S, first_instant, first_unseen_wall, span_at

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


@pytest.mark.parametrize("expression", ["0 2 1 11 *", "*/30 2 1 11 *"])
def test_the_hour_after_a_fold_is_found_from_far_away_and_is_not_where_the_fold_begins(expression: str):
    assert new_york(expression, datetime(2026, 1, 1), 1) == ["01 02:00 EST"]  # noqa: DTZ001


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


def test_the_last_span_ends_with_the_year_9998():
    assert datetime.fromtimestamp(span_at("UTC", END_S - 1).end_s, UTC) == datetime(9999, 1, 1, tzinfo=UTC)


def test_a_wall_time_that_comes_after_the_end_of_time_is_answered_by_an_instant_after_it():
    assert first_instant("America/New_York", END_S - 5 * 3600 - 1) == END_S - 1
    assert first_instant("America/New_York", END_S - 5 * 3600) == END_S
    assert first_instant("America/New_York", END_S - 1) == END_S - 1 + 5 * 3600
