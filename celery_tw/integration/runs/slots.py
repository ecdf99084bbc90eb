"""Slots: what a running task can learn about the moment it was meant for."""

from datetime import datetime
from typing import Any

from celery_tw.integration.messages.identity_headers import ETA, SLOT
from celery_tw.integration.moments import from_ms


def slot(request: Any) -> datetime | None:
    """Return the moment that *request* (``self.request`` of a bound task) was meant for, an aware datetime, or None for any other send.

    It is the slot that an entry was fired for, or else the ETA of a task that waited in the timetable.
    """
    moment_ms = _header(request, SLOT) or _header(request, ETA)
    return None if moment_ms is None else from_ms(int(moment_ms))


def _header(request: Any, name: str) -> Any:
    return getattr(request, name, None) or (getattr(request, "headers", None) or {}).get(name)
