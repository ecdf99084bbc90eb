"""Conversion: Celery's own schedules as specs.

``schedule``
    becomes an interval. A relative one rounds down to the unit of its period, in the app's zone: 90 minutes relative
    fires each full hour, as it does under stock beat, and days follow the calendar, so that they become a rule at
    midnight.
``crontab``
    becomes a cron expression from its expanded sets, with the day of the month AND the weekday when both are
    restricted, as Celery has it. A field written with ``*`` keeps a ``*`` or a step, because that decides what a
    daylight-saving change does (``core/cron.py``).
``solar``
    becomes its event and place; ``custom`` stands for any other class, which only a process that holds the object can
    ask.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from celery.schedules import BaseSchedule, crontab, schedule, solar

from celery_tw.core.spec import recurrence_from_spec
from celery_tw.errors import InvalidSchedule
from celery_tw.integration.schedules.timezone import zone_name
from celery_tw.integration.schedules.wheel_schedule import completed

DAY_MS = 86_400_000
UNITS_MS = (DAY_MS, 3_600_000, 60_000, 1000)

_CRONTAB_RULES = ("remaining_estimate", "remaining_delta", "_delta_to_next")


def interval_given(period: timedelta | float, *, anchor_ms: int | None = None) -> dict[str, Any]:
    """Return an interval as ``WheelSchedule.given`` has it; raise InvalidSchedule for what is no period of at least 10 ms."""
    period_ms = _period_ms(period)
    recurrence_from_spec({"kind": "interval", "period_ms": period_ms, "anchor_ms": anchor_ms or 0})
    return {"kind": "interval", "period_ms": period_ms, "anchor_ms": anchor_ms}


def converted(source: BaseSchedule, *, app: Any, now_ms: int) -> dict[str, Any]:
    """Return the spec of a schedule of Celery's or of the user's own class; *now_ms* anchors an interval."""
    if _is_plain(source, schedule, ("remaining_estimate",)):
        return _interval_spec(source, app=app, now_ms=now_ms)
    if _is_plain(source, crontab, _CRONTAB_RULES):
        return _crontab_spec(source, app=app)
    if _is_plain(source, solar, ("remaining_estimate", "_next_event")):
        return {"kind": "solar", "event": source.event, "lat": source.lat, "lon": source.lon}
    return {"kind": "custom", "repr": repr(source)}


def _is_plain(source: BaseSchedule, family: type, rules: tuple[str, ...]) -> bool:
    """Return whether *source* is of that family and does not decide its slots in code of its own."""
    return isinstance(source, family) and all(getattr(type(source), rule, None) is getattr(family, rule, None) for rule in rules)


def _period_ms(period: timedelta | float) -> int:
    try:
        period = period if isinstance(period, timedelta) else timedelta(seconds=period)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidSchedule(f"an interval takes seconds or a timedelta, not {period!r}") from error
    return round(period / timedelta(milliseconds=1))


def _interval_spec(source: schedule, *, app: Any, now_ms: int) -> dict[str, Any]:
    given = interval_given(source.run_every)
    if not source.relative:
        return completed(given, zone="UTC", anchor_ms=now_ms)
    zone = zone_name(_zone_of(source, app))
    unit_ms = next((unit_ms for unit_ms in UNITS_MS if given["period_ms"] >= unit_ms), 1)
    count = given["period_ms"] // unit_ms
    if unit_ms == DAY_MS:
        return _every_days(count, zone)
    offset_ms = _offset_ms(_zone_of(source, app), now_ms)
    return {"kind": "interval", "period_ms": count * unit_ms, "anchor_ms": -offset_ms % unit_ms}


def _every_days(count: int, zone: str) -> dict[str, Any]:
    if count == 1:
        return {"kind": "cron", "expression": "0 0 * * *", "zone": zone, "day_or": True, "hash_id": ""}
    given = {"kind": "rrule", "rule": f"FREQ=DAILY;INTERVAL={count}", "zone": zone, "start_ms": None}
    return completed(given, zone=zone, anchor_ms=0)


def _crontab_spec(source: crontab, *, app: Any) -> dict[str, Any]:
    fields = (
        _field(source._orig_minute, source.minute, 0, 59),
        _field(source._orig_hour, source.hour, 0, 23),
        _field(source._orig_day_of_month, source.day_of_month, 1, 31),
        _field(source._orig_month_of_year, source.month_of_year, 1, 12),
        _field(source._orig_day_of_week, source.day_of_week, 0, 6),
    )
    both = fields[2] != "*" and fields[4] != "*"
    spec = {"kind": "cron", "expression": " ".join(fields), "zone": zone_name(_zone_of(source, app)), "day_or": not both, "hash_id": ""}
    recurrence_from_spec(spec)
    return spec


def _field(written: Any, values: set[int], low: int, high: int) -> str:
    """Return a cron field for *values*, keeping the rhythm of one that was *written* with a ``*``."""
    if values == set(range(low, high + 1)):
        return "*"
    if isinstance(written, str) and "*" in written and (step := _step(values, low, high)):
        return f"*/{step}"
    return ",".join(str(value) for value in sorted(values))


def _step(values: set[int], low: int, high: int) -> int | None:
    """Return the step of ``*/step`` that expands to *values*, or None."""
    first, second, *_ = [*sorted(values), low, low]
    step = second - first
    return step if step > 0 and values == set(range(low, high + 1, step)) else None


def _zone_of(source: BaseSchedule, app: Any) -> Any:
    """Return the zone that *source* was given (``django-celery-beat`` does), else the app's."""
    own: Mapping[str, Any] = vars(source)
    return own.get("tz") or app.timezone


def _offset_ms(where: Any, now_ms: int) -> int:
    offset = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(where).utcoffset() or timedelta()
    return offset // timedelta(milliseconds=1)


def solar_schedule(event: str, lat: float, lon: float) -> solar:
    """Return the live schedule of a solar spec; raise InvalidSchedule for an unknown event or place."""
    try:
        return solar(event, lat, lon)
    except ValueError as error:
        raise InvalidSchedule(str(error)) from error
