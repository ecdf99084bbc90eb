"""Moments: from Celery's datetimes to the UTC milliseconds in which everything inside counts, and back."""

from datetime import UTC, datetime, timedelta

from celery_tw.errors import InvalidSchedule

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def to_ms(moment: datetime) -> int:
    """Return the UTC millisecond that holds *moment*, an aware datetime."""
    return (moment - _EPOCH) // _MILLISECOND


def from_ms(moment_ms: int) -> datetime:
    """Return *moment_ms* as an aware datetime in UTC."""
    return _EPOCH + moment_ms * _MILLISECOND


def aware_ms(moment: datetime, *, what: str) -> int:
    """Return *moment* in UTC ms; raise InvalidSchedule, naming *what* it was given for, unless it is an aware datetime."""
    if not isinstance(moment, datetime):
        raise InvalidSchedule(f"{what} takes an aware datetime, not {moment!r}")
    if moment.utcoffset() is None:
        raise InvalidSchedule(
            f"{what} takes an aware datetime, and {moment!r} has no time zone: "
            'give it one, as in datetime(…, tzinfo=ZoneInfo("Europe/Berlin")) or datetime.now(UTC)'
        )
    return to_ms(moment)
