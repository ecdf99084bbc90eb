"""Words: schedules, moments and durations as people say them."""

from collections.abc import Mapping
from datetime import datetime, tzinfo
from typing import Any

from celery_tw.integration.moments import from_ms, to_ms

UNITS = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000), ("ms", 1))


def duration(duration_ms: int, *, units: int = len(UNITS)) -> str:
    """Return a duration in its largest *units* units: ``2 h 15 min``; less than a minute as ``1.5 s``."""
    if duration_ms < 1000:
        return f"{duration_ms} ms"
    if duration_ms < 60_000:
        return f"{duration_ms / 1000:.3f}".rstrip("0").rstrip(".") + " s"
    words = []
    for unit, size_ms in UNITS:
        count, duration_ms = divmod(duration_ms, size_ms)
        if count:
            words.append(f"{count} {unit}")
    return " ".join(words[:units])


def moment(at: datetime | None, where: tzinfo) -> str:
    """Return a moment in the zone *where*, with milliseconds only when it has some; empty for None."""
    if at is None:
        return ""
    there = at.astimezone(where)
    fraction = f".{there.microsecond // 1000:03}" if there.microsecond else ""
    return f"{there:%Y-%m-%d %H:%M:%S}{fraction} {there:%Z}"


def until(at: datetime | None, now_ms: int) -> str:
    """Return how far away a moment is: ``in 2 h 15 min`` or ``3 s ago``."""
    if at is None:
        return ""
    left_ms = to_ms(at) - now_ms
    if left_ms < 0:
        return f"{_rough(-left_ms)} ago"
    return f"in {_rough(left_ms)}"


def aged(seconds: float | None) -> str:
    """Return for how long something has waited, roughly; empty for None."""
    return "" if seconds is None else _rough(round(seconds * 1000))


def _rough(left_ms: int) -> str:
    return duration(left_ms // 1000 * 1000 if left_ms >= 10_000 else left_ms // 100 * 100, units=2)


def schedule_words(spec: Mapping[str, Any], where: tzinfo) -> str:
    """Return a schedule spec in words; a kind without words of its own is shown as it is stored."""
    kind = spec.get("kind")
    if kind == "cron":
        return f"cron {spec['expression']} ({spec['zone']})"
    if kind == "interval":
        return f"every {duration(int(spec['period_ms']))}"
    if kind == "once":
        return f"once at {moment(from_ms(int(spec['at_ms'])), where)}" if spec.get("at_ms") is not None else "once"
    if kind == "rrule":
        return f"rrule {spec['rule']} ({spec['zone']})"
    if kind == "solar":
        return f"{spec['event']} at {spec['lat']}, {spec['lon']}"
    return str(spec.get("repr") or dict(spec))


def misfire_words(misfire: Mapping[str, Any]) -> str:
    """Return a misfire policy in words."""
    policy = str(misfire.get("policy", ""))
    if misfire.get("rate") is None:
        return policy
    return f"{policy} ({misfire['rate']:g} a second, at most {misfire['limit']})"
