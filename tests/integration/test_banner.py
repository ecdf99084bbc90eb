"""The banner tells what will be fired next, from the first start on, and who leads."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery
from celery.schedules import BaseSchedule

from celery_tw import TimeWheel, every, once
from celery_tw.integration.banner import banner

MakeApp = Callable[..., Celery]


class Odd(BaseSchedule):
    """A schedule class of a user's own."""

    def remaining_estimate(self, last_run_at: Any) -> Any:
        raise AssertionError("not asked here")


SETTINGS = {
    "hourly": {"task": "shop.report", "schedule": every(hours=1)},
    "often": {"task": "shop.report", "schedule": 20.0},
    "later": {"task": "shop.report", "schedule": 1.0, "options": {"tw": {"start": "2090-01-01T00:00+00:00"}}},
    "ended": {"task": "shop.report", "schedule": 1.0, "options": {"tw": {"end": "2020-01-01T00:00+00:00"}}},
    "odd": {"task": "shop.report", "schedule": Odd()},
    "wrong": {"task": "shop.report", "schedule": "every day"},
    "rarely": {"task": "shop.report", "schedule": every(days=2)},
}


def following(shown: str) -> list[str]:
    """Return the names of the entries that are shown as next, in order."""
    return re.findall(r"^ *\. next -> .*  (\S+)$", shown, re.MULTILINE)


@pytest.fixture
def shop(make_app: MakeApp) -> Celery:
    return make_app(beat_schedule=SETTINGS, timezone="Europe/Berlin", result_expires=None)


def test_at_the_first_start_the_next_fires_are_those_of_the_settings(shop: Celery) -> None:
    shown = banner(shop)

    assert f". entries -> 0 in the timetable, {len(SETTINGS)} in the settings" in shown
    assert ". time zone -> Europe/Berlin" in shown
    assert ". leader -> nobody yet: this process will try" in shown
    assert following(shown) == ["often", "hourly", "rarely"]


def test_afterwards_the_next_fires_are_those_of_the_timetable(shop: Celery) -> None:
    TimeWheel(shop).schedule("launch", shop.signature("shop.report"), once(datetime.now(UTC) + timedelta(hours=1)))

    assert following(banner(shop)) == ["launch"]
