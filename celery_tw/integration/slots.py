"""Slots: what a running task can learn about the slot it was fired for."""

from datetime import datetime
from typing import Any

from celery_tw.integration.moments import from_ms

HEADER = "tw_slot"


def slot(request: Any) -> datetime | None:
    """Return the slot that *request* (``self.request`` of a bound task) was fired for, an aware datetime, or None for any other send."""
    slot_ms = getattr(request, HEADER, None) or (getattr(request, "headers", None) or {}).get(HEADER)
    return None if slot_ms is None else from_ms(int(slot_ms))
