"""Cron: a cron expression in a time zone, as a recurrence.

The expression is expanded once (``core/cron_fields.py``), matched on naive wall time, and resolved to instants span by span
(``core/zones.py``). Daylight saving time is where schedulers go wrong; the rule is Debian cron's:

* A **fixed-time** job, one whose minute and hour fields hold neither ``*`` nor a step, means a time of day. When a gap swallows
  it, it fires at the first instant after the gap, once. When a fold repeats it, it fires once, on the first pass.
* **Every other** job means a rhythm: it fires at every instant whose wall time matches, on both passes of a fold, never inside a gap.

New York 2026, all in local time::

    30 2 * * *       8 March      03:00 EDT                  30 1 * * *     1 November   01:30 EDT
    */30 1-3 * * *   8 March      1:00 1:30 3:00 3:30        0 * * * *      1 November   … 01:00 EDT, 01:00 EST, 02:00 …

The expansion and the place last visited are shared by all values with the same text and zone. The place is a pure cache,
replaced whole, so that threads may share it too.
"""

from calendar import monthrange
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from typing import NamedTuple

from celery_tw.core.cron_fields import CronFields, parse_cron
from celery_tw.core.day_times import lowest
from celery_tw.core.zones import DAY_S, END_S, FIRST_S, Span, span_at, zone
from celery_tw.errors import InvalidSchedule

SEARCH_S = 48 * 366 * DAY_S
"""How far the next slot may be. The rarest day of all, a leap day on a given weekday, comes within 40 years."""

_EPOCH_DAY = date(1970, 1, 1).toordinal()
_REFERENCE_S = 1_704_067_200  # 2024-01-01; every expression must fire within SEARCH_S of it


class _Month(NamedTuple):
    """A month: its days, counted from 1970-01-01, and the mask of those that match."""

    first_day: int
    end_day: int
    days: int


class _Stepper:
    """Finds the next slot of one expression in one zone."""

    __slots__ = ("_fields", "_fixed_time", "_month", "_span", "_times", "_zone")

    def __init__(self, fields: CronFields, zone_name: str) -> None:
        self._fields = fields
        self._fixed_time = fields.fixed_time
        self._times = fields.times
        self._zone = zone_name
        self._span = Span(0, 0, 0, 0)
        self._month = _Month(0, 0, 0)

    def next_after_s(self, after_s: int) -> int | None:
        span = self._span
        if not span.start_s <= after_s < span.end_s:
            if after_s >= END_S:
                return None
            after_s = max(after_s, FIRST_S)
            span = self._span = span_at(self._zone, after_s)
        low_s = after_s + 1 + span.offset_s
        if self._fixed_time and low_s < span.seen_s:
            low_s = span.seen_s
        wall_s = self._first_wall(low_s)
        if wall_s is None:
            return None
        instant_s = wall_s - span.offset_s
        return instant_s if instant_s < span.end_s else self._in_later_span(span, low_s, wall_s)

    def _in_later_span(self, span: Span, low_s: int, wall_s: int) -> int | None:
        """Return the slot when *wall_s*, the first match from *low_s*, lies beyond the end of *span*."""
        if self._fixed_time:
            return self._fixed_in_later_span(span, wall_s)
        limit_s = min(span.end_s + SEARCH_S, END_S)
        while span.end_s < limit_s:
            span = span_at(self._zone, span.end_s)
            first_s = span.start_s + span.offset_s
            if first_s < low_s or wall_s < first_s:  # a fold shows earlier wall times again; a gap swallowed the match
                found = self._first_wall(first_s)
                if found is None:
                    return None
                wall_s = found
            low_s = first_s
            if wall_s - span.offset_s < span.end_s:
                return wall_s - span.offset_s
        return None

    def _fixed_in_later_span(self, span: Span, wall_s: int) -> int | None:
        limit_s = min(span.end_s + SEARCH_S, END_S)
        while span.end_s < limit_s:
            span = span_at(self._zone, span.end_s)
            if wall_s - span.offset_s < span.end_s:
                return max(span.start_s, wall_s - span.offset_s)
        return None

    def _first_wall(self, wall_s: int) -> int | None:
        """Return the first matching wall time at or after *wall_s*."""
        day, second_of_day = divmod(wall_s, DAY_S)
        month = self._month
        if not month.first_day <= day < month.end_day:
            month = self._visit(day)
        if month.days >> (day - month.first_day) & 1:
            found = self._times.first_from(second_of_day)
            if found >= 0:
                return day * DAY_S + found
        later = self._first_day(day + 1)
        return None if later is None else later * DAY_S + self._times.first_from(0)

    def _first_day(self, day: int) -> int | None:
        """Return the first matching day at or after *day*."""
        month = self._month
        while True:
            if not month.first_day <= day < month.end_day:
                month = self._visit(day)
            if later := month.days >> (day - month.first_day):
                return day + lowest(later)
            day = month.end_day
            if day >= END_S // DAY_S:
                return None

    def _visit(self, day: int) -> _Month:
        on = date.fromordinal(day + _EPOCH_DAY)
        first_weekday, length = monthrange(on.year, on.month)
        days = self._fields.days(month=on.month, length=length, first_weekday=(first_weekday + 1) % 7)
        first_day = day - on.day + 1
        self._month = month = _Month(first_day, first_day + length, days)
        return month


@dataclass(frozen=True, slots=True)
class Cron:
    """The slots of a cron *expression* read in *zone*.

    *day_or* joins a restricted day of the month and a restricted weekday by OR (cron) or AND (Celery's crontab); *hash_id* seeds
    ``H``. Raises InvalidSchedule for anything that is not such an expression or never fires.
    """

    expression: str
    zone: str
    day_or: bool = True
    hash_id: str = ""
    _stepper: _Stepper = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.expression, str):
            raise InvalidSchedule(f"a cron expression is a string such as '0 9 * * MON-FRI', not {self.expression!r}")
        if not isinstance(self.day_or, bool):
            raise InvalidSchedule(f"day_or of cron expression {self.expression!r} is True or False, not {self.day_or!r}")
        if not isinstance(self.hash_id, str):
            raise InvalidSchedule(f"hash_id of cron expression {self.expression!r} is a string, not {self.hash_id!r}")
        zone(self.zone)
        object.__setattr__(self, "_stepper", _stepper(self.expression, self.zone, self.day_or, self.hash_id))

    def next_after(self, after_ms: int) -> int | None:
        """Return the first slot strictly after *after_ms*, or None when it would be after the year 9998."""
        slot_s = self._stepper.next_after_s(after_ms // 1000)
        return None if slot_s is None else slot_s * 1000


@lru_cache(maxsize=4096)
def _stepper(expression: str, zone_name: str, day_or: bool, hash_id: str) -> _Stepper:
    stepper = _Stepper(parse_cron(expression, day_or=day_or, hash_id=hash_id), zone_name)
    if stepper.next_after_s(_REFERENCE_S) is None:
        raise InvalidSchedule(
            f"cron expression {expression!r} never fires in {zone_name}: its times fall into the hour skipped in spring; "
            "move it, or write it without '*' and step"
        )
    return stepper
