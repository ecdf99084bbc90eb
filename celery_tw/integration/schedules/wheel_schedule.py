"""WheelSchedule: a schedule of ours, as Celery knows schedules.

It stands in ``beat_schedule`` like ``crontab`` does. Under ``-S timewheel`` only its ``spec`` is read. Under stock
beat Celery asks ``is_due``, and the same recurrence answers, so that a project goes there and back with the same
settings.

What the author left open stays open in ``given`` (a None), because a schedule is often built before there is an app:
the zone is the app's, an interval without an anchor counts from the last run under stock beat and from its first
storing under ours, ``H`` is seeded by the entry's name. ``completed`` closes the gaps. Two schedules are equal when
their authors wrote the same.
"""

import json
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from celery.schedules import BaseSchedule, schedstate

from celery_tw.core.recurrence import Recurrence
from celery_tw.core.spec import recurrence_from_spec
from celery_tw.core.zones import first_instant
from celery_tw.integration.moments import to_ms
from celery_tw.integration.schedules.timezone import app_zone

NEVER_S = 366 * 86_400.0
"""What stock beat is told to wait when there is no further slot; it asks again much sooner."""

RRULE_START_WALL_S = 1_704_067_200
"""Monday 2024-01-01 00:00 in the rule's zone, the start of a rule that names none."""

_HASHED = re.compile(r"(?i)(?:^|[\s,])h(?:$|[\s,/(])")


class WheelSchedule(BaseSchedule):
    """A schedule written with ``cron()``, ``every()``, ``once()`` or ``rrule()``.

    *given* is a spec (see ``core/spec.py``) in which ``zone``, ``anchor_ms``, ``start_ms`` and ``hash_id`` may be None.
    """

    def __init__(self, given: Mapping[str, Any], *, app: Any = None) -> None:
        super().__init__(app=app)
        self.given = dict(given)
        self._resolved: tuple[str, Recurrence] | None = None

    @property
    def spec(self) -> dict[str, Any]:
        """The spec, completed with the app's zone and, for an open interval, the epoch as its anchor."""
        return completed(self.given, zone=self._zone(), anchor_ms=0)

    @property
    def recurrence(self) -> Recurrence:
        """The recurrence of ``spec``, built once for each zone that the app had."""
        zone = self._zone()
        if self._resolved is None or self._resolved[0] != zone:
            self._resolved = (zone, recurrence_from_spec(self.spec))
        return self._resolved[1]

    @property
    def floating(self) -> bool:
        """True for an interval whose author left the anchor open."""
        return self.given["kind"] == "interval" and self.given["anchor_ms"] is None

    def is_due(self, last_run_at: datetime) -> Any:
        """Return Celery's ``(is_due, seconds until the next look)`` for an entry that last ran at *last_run_at*."""
        last_ms, now_ms = self._ms(last_run_at), self._ms(self.now())
        slot_ms = self._next_after(last_ms, last_ms)
        if slot_ms is None or slot_ms > now_ms:
            return schedstate(False, _seconds(slot_ms, now_ms))
        return schedstate(True, _seconds(self._next_after(now_ms, now_ms), now_ms))

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        """Return the time from now to the slot after *last_run_at*; negative when it has passed."""
        last_ms = self._ms(last_run_at)
        return timedelta(seconds=_seconds(self._next_after(last_ms, last_ms), self._ms(self.now())))

    def _next_after(self, after_ms: int, last_ms: int) -> int | None:
        if self.floating:
            return recurrence_from_spec({**self.given, "anchor_ms": last_ms}).next_after(after_ms)
        return self.recurrence.next_after(after_ms)

    def _ms(self, moment: datetime) -> int:
        return to_ms(self.maybe_make_aware(moment))

    def _zone(self) -> str:
        return self.given.get("zone", "UTC") or app_zone(self.app)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, WheelSchedule):
            return self.given == other.given
        return NotImplemented

    def __hash__(self) -> int:
        return hash(json.dumps(self.given, sort_keys=True))

    def __repr__(self) -> str:
        facts = (f"{key}={value!r}" for key, value in self.given.items() if key != "kind" and value is not None)
        return f"<{self.given['kind']}: {', '.join(facts)}>"

    def __reduce__(self) -> tuple[type["WheelSchedule"], tuple[dict[str, Any]]]:
        return type(self), (self.given,)


def completed(given: Mapping[str, Any], *, zone: str, anchor_ms: int, entry_name: str = "") -> dict[str, Any]:
    """Return *given* with what its author left open: the zone, an interval's anchor, a rule's start, the seed of ``H``."""
    spec = dict(given)
    if spec.get("zone", "") is None:
        spec["zone"] = zone
    if spec["kind"] == "interval" and spec["anchor_ms"] is None:
        spec["anchor_ms"] = anchor_ms
    if spec["kind"] == "rrule" and spec["start_ms"] is None:
        spec["start_ms"] = first_instant(spec["zone"], RRULE_START_WALL_S) * 1000
    if spec["kind"] == "cron" and spec["hash_id"] is None:
        spec["hash_id"] = _seed(spec["expression"], entry_name)
    return spec


def _seed(expression: str, entry_name: str) -> str:
    return (entry_name or expression) if _HASHED.search(expression) else ""


def _seconds(slot_ms: int | None, now_ms: int) -> float:
    return NEVER_S if slot_ms is None else (slot_ms - now_ms) / 1000
