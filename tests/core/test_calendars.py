"""A sample of what ``python -m tests.calendars`` does in full: slots against a scan of all minutes, and against cronsim."""

import pytest

from tests.calendars.oracle import Calendar, read_pattern
from tests.calendars.sweep import sweep

SAMPLE = {
    "Europe/Berlin": range(2037, 2039),
    "America/St_Johns": range(2010, 2012),
    "Australia/Lord_Howe": range(2008, 2009),
    "Pacific/Apia": range(2011, 2012),
    "Africa/Casablanca": range(2029, 2030),
    "Antarctica/Troll": range(2016, 2017),
    "Antarctica/Casey": range(2009, 2012),
    "Asia/Pyongyang": range(2018, 2019),
    "America/Caracas": range(2007, 2008),
    "Asia/Beirut": range(2000, 2001),
    "America/Sao_Paulo": range(2017, 2018),
    "UTC": range(2000, 2001),
    "America/Nuuk": range(2099, 2101),
}


@pytest.mark.parametrize("zone", SAMPLE)
def test_every_slot_is_that_of_a_scan_of_all_minutes_and_of_cronsim(zone: str) -> None:
    finding = sweep(zone, SAMPLE[zone])

    assert finding.differences == []
    assert finding.slots > 3000
    assert finding.cronsim_slots > 1000


def test_the_comparison_finds_a_slot_too_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celery_tw.core.cron.Cron.next_after", lambda cron, after_ms: None)

    assert {difference.judge for difference in sweep("America/New_York", range(2026, 2027)).differences} == {"the scan", "cronsim"}


def test_the_oracle_sees_the_clock_go_twice_through_an_hour() -> None:
    calendar = Calendar("America/New_York", range(2026, 2027))

    assert len(calendar.changes) == 2
    assert len(calendar.near_changes(read_pattern("30 1 * * *", range(2026, 2027)))) == 4
    assert len(calendar.near_changes(read_pattern("*/30 1 * * *", range(2026, 2027)))) == 10
