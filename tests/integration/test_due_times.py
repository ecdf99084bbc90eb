"""When a task is due: all that Celery takes as an ETA, and what is refused."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from celery import Celery

from celery_tw.errors import InvalidSchedule
from celery_tw.integration.deferring.due_times import due_time_ms
from celery_tw.integration.moments import to_ms

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOW_MS = to_ms(NOW)


def due(*, countdown: Any = None, eta: Any = None, zone: str = "UTC") -> int:
    app = Celery("shop", set_as_current=False, timezone=zone)
    return due_time_ms(app, countdown=countdown, eta=eta, now_ms=NOW_MS) - NOW_MS


def test_a_countdown_counts_from_now() -> None:
    assert due(countdown=5) == 5000
    assert due(countdown=0.25) == 250
    assert due(countdown=-3) == -3000


def test_a_countdown_goes_before_an_eta_as_in_celery() -> None:
    assert due(countdown=5, eta=NOW + timedelta(hours=1)) == 5000


def test_an_aware_eta_says_everything() -> None:
    assert due(eta=datetime(2026, 3, 1, 14, tzinfo=timezone(timedelta(hours=1)))) == 3_600_000
    assert due(eta=NOW - timedelta(days=1)) == -86_400_000


def test_a_naive_eta_is_wall_time_of_the_app() -> None:
    assert due(eta=datetime(2026, 3, 1, 14), zone="Europe/Berlin") == 3_600_000  # noqa: DTZ001 - that is the case
    assert due(eta=datetime(2026, 3, 1, 14)) == 7_200_000  # noqa: DTZ001


def test_an_eta_may_be_text_as_a_retry_or_a_stored_signature_has_it() -> None:
    assert due(eta="2026-03-01T13:00:00+00:00") == 3_600_000
    assert due(eta="2026-03-01T13:00:00Z") == 3_600_000


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"countdown": "5"}, "countdown takes a number of seconds, not '5'"),
        ({"countdown": float("nan")}, "number of seconds"),
        ({"countdown": float("inf")}, "more than 100 years away"),
        ({"countdown": timedelta(seconds=5)}, "number of seconds"),
        ({"countdown": 10**400}, "more than 100 years away"),
        ({"countdown": 4e9}, "more than 100 years away"),
        ({"eta": 1_700_000_000}, "eta takes a datetime, not 1700000000; a number of seconds is a countdown"),
        ({"eta": "tomorrow"}, "eta takes a datetime or its ISO 8601 form, not 'tomorrow'"),
        ({"eta": NOW.date()}, "eta takes a datetime"),
        ({"eta": datetime(2200, 1, 1, tzinfo=UTC)}, "eta=2200-01-01 00:00:00.00:00 is more than 100 years away"),
        ({"eta": datetime.max}, "more than 100 years away"),  # noqa: DTZ901 - that is the case
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_no_moment_is_refused_with_what_came(given: dict[str, Any], expected: str) -> None:
    with pytest.raises(InvalidSchedule, match=expected):
        due(**given)
