"""Schedules, moments and durations read as people say them."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from celery_tw.cli.words import duration, misfire_words, moment, schedule_words, until
from celery_tw.core.misfire import Misfire

BERLIN = ZoneInfo("Europe/Berlin")
NOON_MS = 1_767_268_800_000  # 2026-01-01 12:00 UTC


@pytest.mark.parametrize(
    ("duration_ms", "words"),
    [
        (10, "10 ms"),
        (1000, "1 s"),
        (1500, "1.5 s"),
        (30_000, "30 s"),
        (90_000, "1 min 30 s"),
        (3_600_000, "1 h"),
        (8_130_000, "2 h 15 min 30 s"),
        (86_400_000, "1 d"),
        (86_400_001, "1 d 1 ms"),
        (0, "0 ms"),
    ],
)
def test_a_duration_is_said_in_units(duration_ms, words):
    assert duration(duration_ms) == words


def test_a_duration_can_be_rough():
    assert duration(8_130_000, units=2) == "2 h 15 min"


def test_a_moment_is_said_in_the_zone():
    assert moment(datetime(2026, 7, 1, 12, tzinfo=UTC), BERLIN) == "2026-07-01 14:00:00 CEST"
    assert moment(datetime(2026, 7, 1, 12, 0, 0, 250_000, tzinfo=UTC), BERLIN) == "2026-07-01 14:00:00.250 CEST"
    assert moment(None, BERLIN) == ""


def test_the_way_to_a_moment_is_rough_beyond_ten_seconds():
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert until(noon, NOON_MS - 8_130_500) == "in 2 h 15 min"
    assert until(noon, NOON_MS - 2345) == "in 2.3 s"
    assert until(noon, NOON_MS + 2345) == "2.3 s ago"
    assert until(None, NOON_MS) == ""


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"kind": "cron", "expression": "0 2 * * *", "zone": "Europe/Berlin"}, "cron 0 2 * * * (Europe/Berlin)"),
        ({"kind": "interval", "period_ms": 30_000, "anchor_ms": 5}, "every 30 s"),
        ({"kind": "once", "at_ms": NOON_MS}, "once at 2026-01-01 13:00:00 CET"),
        ({"kind": "rrule", "rule": "FREQ=DAILY", "zone": "UTC", "start_ms": 0}, "rrule FREQ=DAILY (UTC)"),
        ({"kind": "solar", "event": "sunset", "lat": 52.5, "lon": 13.4}, "sunset at 52.5, 13.4"),
        ({"kind": "custom", "repr": "<full moon>"}, "<full moon>"),
        ({"kind": "tidal", "port": "Kiel"}, "{'kind': 'tidal', 'port': 'Kiel'}"),
    ],
)
def test_a_schedule_is_said_in_words(spec, words):
    assert schedule_words(spec, BERLIN) == words


def test_a_misfire_policy_is_said_with_its_numbers():
    assert misfire_words(Misfire.latest().to_spec()) == "latest"
    assert misfire_words(Misfire.catch_up(rate=2.5, limit=7).to_spec()) == "catch_up (2.5 a second, at most 7)"
