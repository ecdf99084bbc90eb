"""Time zone: the IANA name of whatever Celery or a caller takes for a time zone.

A spec is JSON and is read by other processes, so that a zone travels by name. Most zone objects know theirs; the
machine's own zone, which Celery uses when ``enable_utc`` is off and ``timezone`` is not set, is asked of ``tzlocal``
by Celery itself and has one too where it can be found.
"""

from datetime import UTC, tzinfo
from typing import Any

from celery_tw.core.zones import zone
from celery_tw.errors import InvalidSchedule


def zone_name(where: str | tzinfo) -> str:
    """Return the IANA name of *where*; raise InvalidSchedule when it has none, or one that is not known here."""
    if isinstance(where, str):
        return zone(where).key
    if where is UTC:
        return "UTC"
    name = getattr(where, "key", None) or getattr(where, "zone", None)
    if not isinstance(name, str):
        raise InvalidSchedule(f"a schedule takes a time zone by its name, such as 'Europe/Berlin', and {where!r} has none")
    return zone(name).key


def app_zone(app: Any) -> str:
    """Return the IANA name of the app's ``timezone`` setting."""
    return zone_name(app.timezone)
