"""Spec: a schedule as plain JSON, and the way back to a recurrence.

A spec is what the timetable stores, so nothing in it is trusted: a missing field, a field of another type or an unknown kind is
InvalidSchedule, which quarantines that one entry. Fields that this version does not know are left alone::

    {"kind": "cron", "expression": "0 9 * * 1-5", "zone": "Europe/Berlin", "day_or": true, "hash_id": ""}
    {"kind": "interval", "period_ms": 30000, "anchor_ms": 0}
    {"kind": "once", "at_ms": 1767225600000}
    {"kind": "rrule", "rule": "FREQ=DAILY;BYHOUR=9", "zone": "Europe/Berlin", "start_ms": 1767225600000}

``day_or``, ``hash_id`` and ``anchor_ms`` may be left out.
"""

from collections.abc import Callable, Mapping
from typing import Any

from celery_tw.core.cron import Cron
from celery_tw.core.interval import Interval
from celery_tw.core.once import Once
from celery_tw.core.recurrence import Recurrence
from celery_tw.core.rrule import RRule
from celery_tw.errors import InvalidSchedule

Spec = Mapping[str, Any]


def recurrence_from_spec(spec: Spec) -> Recurrence:
    """Return the recurrence that *spec* describes; raise InvalidSchedule, naming the field, when it describes none."""
    if not isinstance(spec, Mapping):
        raise InvalidSchedule(f"a schedule spec is a mapping with a 'kind', not {spec!r}")
    kind = spec.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise InvalidSchedule(f"unknown kind of schedule {kind!r}; expected one of {', '.join(_KINDS)}")
    return _KINDS[kind](spec)


def _cron(spec: Spec) -> Recurrence:
    return Cron(_text(spec, "expression"), _text(spec, "zone"), _flag(spec, "day_or", True), _text(spec, "hash_id", ""))


def _interval(spec: Spec) -> Recurrence:
    return Interval(_whole(spec, "period_ms"), _whole(spec, "anchor_ms", 0))


def _once(spec: Spec) -> Recurrence:
    return Once(_whole(spec, "at_ms"))


def _rrule(spec: Spec) -> Recurrence:
    return RRule(_text(spec, "rule"), _text(spec, "zone"), _whole(spec, "start_ms"))


_KINDS: dict[str, Callable[[Spec], Recurrence]] = {"cron": _cron, "interval": _interval, "once": _once, "rrule": _rrule}


def _text(spec: Spec, name: str, default: str | None = None) -> str:
    value = spec.get(name, default)
    if not isinstance(value, str):
        raise _wrong(spec, name, "a string", value)
    return value


def _whole(spec: Spec, name: str, default: int | None = None) -> int:
    value = spec.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong(spec, name, "a whole number", value)
    return value


def _flag(spec: Spec, name: str, default: bool) -> bool:
    value = spec.get(name, default)
    if not isinstance(value, bool):
        raise _wrong(spec, name, "true or false", value)
    return value


def _wrong(spec: Spec, name: str, expected: str, value: object) -> InvalidSchedule:
    got = repr(value) if name in spec else "nothing"
    return InvalidSchedule(f"{name!r} of a schedule of kind {spec['kind']!r} is {expected}, got {got}")
