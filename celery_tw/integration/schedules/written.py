"""Schedules: what users write, and what it means.

``cron()``, ``every()``, ``once()`` and ``rrule()`` build a ``WheelSchedule``; a number, a timedelta and every
schedule class of Celery's are taken as well. ``spec_of`` says any of them as plain JSON, ``recurrence_of`` turns that
into slots.

A spec made of an interval without an anchor is anchored where it is first stored (``spec_of``'s *now_ms*). Whoever
stores it keeps the anchor it already has: see ``keeps_anchor``.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta, tzinfo
from typing import Any

from celery.schedules import BaseSchedule, schedule

from celery_tw.core.recurrence import Recurrence
from celery_tw.core.spec import recurrence_from_spec
from celery_tw.errors import InvalidSchedule
from celery_tw.integration.moments import aware_ms
from celery_tw.integration.schedules.conversion import converted, interval_given, solar_schedule
from celery_tw.integration.schedules.estimated import Estimated, solar_slots
from celery_tw.integration.schedules.timezone import app_zone, zone_name
from celery_tw.integration.schedules.wheel_schedule import WheelSchedule, completed

_EXPECTED = "cron(), every(), once(), rrule(), a Celery schedule, a number of seconds or a timedelta"


def cron(expression: str, *, tz: str | tzinfo | None = None, day_or: bool = True) -> WheelSchedule:
    """Return the schedule of a cron *expression*: five fields, six with seconds first, or ``@daily`` and its like.

    *tz* is a zone or its IANA name, by default the app's. *day_or* False means day of the month AND weekday. Raises InvalidSchedule.
    """
    given = {"kind": "cron", "expression": _text(expression, what="cron()"), "zone": _zone(tz), "day_or": day_or, "hash_id": None}
    return _checked(given)


def every(
    interval: timedelta | float | None = None,
    /,
    *,
    days: float = 0,
    hours: float = 0,
    minutes: float = 0,
    seconds: float = 0,
    milliseconds: float = 0,
    anchor: datetime | None = None,
) -> WheelSchedule:
    """Return the schedule of an interval: ``every(30)`` (seconds), ``every(minutes=5)``, ``every(timedelta(hours=1))``.

    Slots lie on a grid through *anchor*, an aware datetime; by default through the moment when the entry is first stored. Raises
    InvalidSchedule for less than 10 ms.
    """
    parts = {"days": days, "hours": hours, "minutes": minutes, "seconds": seconds, "milliseconds": milliseconds}
    anchor_ms = None if anchor is None else aware_ms(anchor, what="anchor")
    return WheelSchedule(interval_given(_period(interval, parts), anchor_ms=anchor_ms))


def once(at: datetime) -> WheelSchedule:
    """Return the schedule of a single slot at the aware datetime *at*. Raises InvalidSchedule for a naive one."""
    return _checked({"kind": "once", "at_ms": aware_ms(at, what="once()")})


def rrule(text: str, *, tz: str | tzinfo | None = None, start: datetime | None = None) -> WheelSchedule:
    """Return the schedule of an RFC 5545 rule such as ``FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=17``.

    *start* (aware) is its DTSTART; by default 2024-01-01 00:00 in *tz*, which is why a rule with COUNT needs one. *tz* is by default the
    app's. Raises InvalidSchedule.
    """
    if start is None and "COUNT=" in _text(text, what="rrule()").upper():
        raise InvalidSchedule(f"rrule {text!r} counts from a start: give start=, an aware datetime")
    start_ms = None if start is None else aware_ms(start, what="start")
    return _checked({"kind": "rrule", "rule": text, "zone": _zone(tz), "start_ms": start_ms})


def _text(written: Any, *, what: str) -> str:
    if not isinstance(written, str):
        raise InvalidSchedule(f"{what} takes text, not {written!r:.60}")
    return written


def spec_of(source: Any, *, app: Any, now_ms: int, entry_name: str) -> dict[str, Any]:
    """Return the spec, plain JSON, of anything that can stand for a schedule in *app*.

    *now_ms* anchors an interval without an anchor of its own, *entry_name* seeds ``H``. Raises InvalidSchedule, naming the entry.
    """
    try:
        return _spec_of(source, app=app, now_ms=now_ms, entry_name=entry_name)
    except InvalidSchedule as error:
        raise InvalidSchedule(f"entry {entry_name!r}: {error}") from error


def recurrence_of(spec: Mapping[str, Any], *, app: Any, schedule: Any = None) -> Recurrence:
    """Return the slots of a spec. A custom spec needs the live *schedule* it stands for. Raises InvalidSchedule."""
    if spec.get("kind") == "solar":
        return solar_slots(_bound(solar_schedule(spec["event"], spec["lat"], spec["lon"]), app))
    if spec.get("kind") == "custom":
        return Estimated(_bound(_live(spec, schedule), app))
    return recurrence_from_spec(spec)


def keeps_anchor(source: Any) -> bool:
    """Return whether the author of *source* left its anchor open, so that a stored interval of the same period keeps its own."""
    if isinstance(source, WheelSchedule):
        return source.floating
    return not isinstance(source, BaseSchedule) or (isinstance(source, schedule) and not source.relative)


def _spec_of(source: Any, *, app: Any, now_ms: int, entry_name: str) -> dict[str, Any]:
    if isinstance(source, WheelSchedule):
        return completed(source.given, zone=app_zone(app), anchor_ms=now_ms, entry_name=entry_name)
    if isinstance(source, BaseSchedule):
        return converted(_bound(source, app), app=app, now_ms=now_ms)
    if isinstance(source, int | float | timedelta) and not isinstance(source, bool):
        return completed(interval_given(source), zone="UTC", anchor_ms=now_ms)
    raise InvalidSchedule(f"a schedule is {_EXPECTED}, not {source!r}")


def _checked(given: dict[str, Any]) -> WheelSchedule:
    """Return the schedule of *given*, having built its recurrence once, so that a mistake shows where it was written."""
    recurrence_from_spec(completed(given, zone="UTC", anchor_ms=0))
    return WheelSchedule(given)


def _zone(tz: str | tzinfo | None) -> str | None:
    return None if tz is None else zone_name(tz)


def _period(interval: timedelta | float | None, parts: dict[str, float]) -> timedelta | float:
    written = {unit: value for unit, value in parts.items() if value}
    if (interval is None) == (not written):
        raise InvalidSchedule(f"every() takes seconds, a timedelta, or units such as minutes=5; it was given {interval!r} and {written!r}")
    if interval is not None:
        return interval
    try:
        return timedelta(**written)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidSchedule(f"every() takes numbers of days, hours, minutes, seconds, milliseconds, not {written!r}") from error


def _bound(source: BaseSchedule, app: Any) -> BaseSchedule:
    """Return *source* with *app* as its app, which is what beat does with the schedules of its settings."""
    source.app = app
    return source


def _live(spec: Mapping[str, Any], schedule: Any) -> BaseSchedule:
    if schedule is None:
        raise InvalidSchedule(
            f"schedule {spec.get('repr')} is an own class: only a process that has it in its beat_schedule can say its slots"
        )
    return schedule
