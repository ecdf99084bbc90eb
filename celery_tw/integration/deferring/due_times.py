"""Due times: from what Celery takes as ``eta`` and ``countdown`` to a moment in UTC ms."""

from datetime import datetime
from typing import Any

from celery_tw.errors import InvalidSchedule
from celery_tw.integration.moments import to_ms

LONGEST_MS = 100 * 366 * 24 * 3600 * 1000


def due_time_ms(app: Any, *, countdown: Any, eta: Any, now_ms: int) -> int:
    """Return when a task is due; a *countdown* counts from *now_ms*, and an *eta* without a zone is wall time of the app, as in Celery.

    Raises `InvalidSchedule` for what is no moment, or one more than a hundred years away.
    """
    due_ms = now_ms + _countdown_ms(countdown) if countdown else _eta_ms(app, eta)
    if due_ms - now_ms > LONGEST_MS:
        raise InvalidSchedule(f"{_given(countdown, eta)} is more than 100 years away: a task can wait for at most that long")
    return due_ms


def _countdown_ms(countdown: Any) -> int:
    if not isinstance(countdown, int | float) or countdown != countdown:  # the last is NaN
        raise InvalidSchedule(f"countdown takes a number of seconds, not {countdown!r}")
    return round(max(-LONGEST_MS, min(countdown, LONGEST_MS)) * 1000)


def _eta_ms(app: Any, eta: Any) -> int:
    moment = _moment(eta)
    return to_ms(moment if moment.utcoffset() is not None else moment.replace(tzinfo=app.timezone))


def _moment(eta: Any) -> datetime:
    if isinstance(eta, str):
        try:
            return datetime.fromisoformat(eta)
        except ValueError as error:
            raise InvalidSchedule(f"eta takes a datetime or its ISO 8601 form, not {eta!r}") from error
    if not isinstance(eta, datetime):
        raise InvalidSchedule(f"eta takes a datetime, not {eta!r}; a number of seconds is a countdown")
    return eta


def _given(countdown: Any, eta: Any) -> str:
    return f"countdown={countdown!r}" if countdown else f"eta={eta!s}"
