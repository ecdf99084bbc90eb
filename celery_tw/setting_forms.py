"""Setting forms: what a setting may be, and what is made of it: durations whole ms, all else a value that cannot change.

A form is a function of a setting's name and value. It raises ImproperlyConfigured, with the name, what was expected and what came.
"""

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from celery_tw.core.allowed import PATTERN, AllowedTasks
from celery_tw.core.lane import LANES
from celery_tw.core.misfire import Misfire
from celery_tw.errors import ImproperlyConfigured, InvalidEntry

NAMESPACE_PATTERN = re.compile(r"[A-Za-z0-9_.:@/-]{1,100}")
WHOLE = 100

Form = Callable[[str, Any], Any]


def namespace_of(value: Any, *, app_name: str | None) -> str:
    if value is None:
        value = app_name
        if value in (None, "", "__main__"):
            raise ImproperlyConfigured(
                "tw_namespace is needed because this app has no name of its own: expected Celery('shop', …), or "
                f"tw_namespace = 'shop' in its settings, got the app name {app_name!r}"
            )
    if not isinstance(value, str) or not NAMESPACE_PATTERN.fullmatch(value):
        raise _wrong("tw_namespace", "1 to 100 letters, digits or any of _ . : @ / -", value)
    return value


def _wrong(key: str, expected: str, value: Any) -> ImproperlyConfigured:
    return ImproperlyConfigured(f"{key}: expected {expected}, got {value!r}")


def seconds(low: float, high: float) -> Form:
    """Read seconds, or a timedelta, as whole ms."""

    def read(key: str, value: Any) -> int:
        number = value.total_seconds() if isinstance(value, timedelta) else value
        if not _is_number(number) or not low <= number <= high:
            raise _wrong(key, f"seconds from {low:g} to {high:g}", value)
        return round(number * 1000)

    return read


def whole(low: int, high: int) -> Form:
    """Read a whole number."""

    def read(key: str, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise _wrong(key, f"a whole number from {low} to {high}", value)
        return value

    return read


def rate(low: float, high: float) -> Form:
    """Read a number per second."""

    def read(key: str, value: Any) -> float:
        if not _is_number(value) or not low <= value <= high:
            raise _wrong(key, f"a number per second from {low:g} to {high:g}", value)
        return float(value)

    return read


def one_of(*allowed: Any) -> Form:
    """Read one of a few values."""

    def read(key: str, value: Any) -> Any:
        if value not in allowed:
            raise _wrong(key, f"one of {', '.join(map(repr, allowed))}", value)
        return value

    return read


def only_for_now(allowed: Any) -> Form:
    """Read the one value that this version has; the others are named as not yet available."""

    def read(key: str, value: Any) -> Any:
        if value != allowed or isinstance(value, bool):
            known = f"{value!r} is not available in this version" if _is_more(value) else f"got {value!r}"
            raise ImproperlyConfigured(f"{key}: expected {allowed!r}, {known}")
        return value

    return read


def _is_more(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 1


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def url(example: str) -> Form:
    """Read a URL; it is not shown in an error, for it may hold a password."""

    def read(key: str, value: Any) -> str:
        if not isinstance(value, str) or "://" not in value:
            came = "a string without '://'" if isinstance(value, str) else type(value).__name__
            raise ImproperlyConfigured(f"{key}: expected a URL such as {example!r}, got {came}")
        return value

    return read


def one_name(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise _wrong(key, "a name", value)
    return value


def names(key: str, value: Any) -> frozenset[str]:
    if not isinstance(value, list | tuple | set | frozenset) or not all(isinstance(name, str) for name in value):
        raise _wrong(key, "a list of names", value)
    return frozenset(value)


def task_patterns(key: str, value: Any) -> AllowedTasks:
    patterns = sorted(names(key, value))
    if not all(PATTERN.fullmatch(pattern) for pattern in patterns):
        raise _wrong(key, "patterns of 1 to 200 characters without blanks and brackets, such as 'shop.reports.*'", value)
    return AllowedTasks(tuple(patterns))


def four_levels(key: str, value: Any) -> tuple[int, ...]:
    levels = tuple(value) if isinstance(value, tuple | list) else ()
    if len(levels) != 4 or not all(isinstance(level, int) and level in range(2, 1001) for level in levels):
        raise _wrong(key, "four whole numbers from 2 to 1000 (seconds, minutes, hours, days)", value)
    return levels


def three_shares(key: str, value: Any) -> tuple[int, ...]:
    shares = tuple(value[lane] for lane in LANES) if isinstance(value, Mapping) and set(value) == set(LANES) else value
    if not isinstance(shares, list | tuple) or len(shares) != len(LANES) or not all(map(_is_share, shares)) or sum(shares) != WHOLE:
        raise _wrong(key, f"whole numbers of percent for {', '.join(LANES)}, each at least 1, that sum to {WHOLE}", value)
    return tuple(shares)


def _is_share(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def misfire_policy(key: str, value: Any) -> Misfire:
    try:
        return Misfire.parse(value)
    except InvalidEntry:
        raise _wrong(key, "'latest', 'skip', 'catch_up' or a Misfire", value) from None
