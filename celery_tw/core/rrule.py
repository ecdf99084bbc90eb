"""RRule: a recurrence rule (RFC 5545) in a time zone, as a recurrence.

The rule is matched on naive wall time that begins at the wall time of its start, and resolved like a fixed-time cron job: in a gap a slot
comes at the first instant after it, in a fold on the first pass.

Nothing is walked from the start. A wall time is a slot when three independent things hold, and each can jump ahead:

* its **day** passes the BY… parts that speak of days (``core/rrule_days.py``),
* its **time of day** is in the masks of hours, minutes and seconds (:class:`DayTimes`),
* its **period** (the year, month, week, … second it lies in) is a multiple of INTERVAL periods after that of the start.

What a rule leaves open is taken from its start, as the RFC says: ``FREQ=MONTHLY`` begun on the 31st at 09:30 falls on each 31st at 09:30.
BYSETPOS picks from all slots of a period, numbered in order. COUNT is counted off once, when the rule is read, and becomes the last
wall time.
"""

from bisect import bisect_left
from calendar import monthrange
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

from celery_tw.core.day_times import DayTimes, mask_of
from celery_tw.core.rrule_days import day_tests
from celery_tw.core.rrule_parts import Frequency, RRuleParts, parse_rrule
from celery_tw.core.zones import DAY_S, END_S, FIRST_S, first_instant, first_unseen_wall, span_at, zone
from celery_tw.errors import InvalidSchedule

SEARCH_DAYS = 48 * 366
"""How many days, or steps within days, are looked at before a rule counts as over. A leap day on a given weekday comes within 40 years."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_COUNT_YEARS = 100
_PERIOD_DAYS = {Frequency.YEARLY: 366, Frequency.MONTHLY: 31, Frequency.WEEKLY: 7, Frequency.DAILY: 1}
_UNIT_S = {Frequency.HOURLY: 3600, Frequency.MINUTELY: 60, Frequency.SECONDLY: 1}


class _Stepper:
    """Finds the wall times of one rule; wall times are seconds, days are counted from 1970-01-01."""

    __slots__ = ("_base", "_parts", "_period_walls", "_start_s", "_tests", "_times", "until_s")

    def __init__(self, parts: RRuleParts, start_s: int) -> None:
        parts = _completed(parts, start_s)
        self._parts = parts
        self._start_s = start_s
        self._tests = day_tests(parts)
        self._times = _times(parts)
        self._base = self._period(start_s)
        self._period_walls: tuple[int | None, list[int]] = (None, [])
        self.until_s = END_S
        if parts.count:
            self.until_s = self._count_off(parts.count)

    def first_wall(self, wall_s: int) -> int | None:
        """Return the first slot, as wall time, at or after *wall_s*."""
        wall_s = max(wall_s, self._start_s)
        found = self._first_picked(wall_s) if self._parts.positions else self._first_match(wall_s)
        return None if found is None or found > self.until_s else found

    def _first_match(self, wall_s: int) -> int | None:
        interval = self._parts.interval
        unit_s = _UNIT_S.get(self._parts.frequency)
        for _ in range(SEARCH_DAYS):
            day = self._first_day(wall_s // DAY_S)
            if day is None:
                return None
            time_s = self._times.first_from(max(wall_s - day * DAY_S, 0))
            if time_s < 0:
                wall_s = (day + 1) * DAY_S
                continue
            wall_s = day * DAY_S + time_s
            if unit_s is None or (beyond := (wall_s // unit_s - self._base) % interval) == 0:
                return wall_s
            wall_s = (wall_s // unit_s + interval - beyond) * unit_s
        return None

    def _first_day(self, day: int) -> int | None:
        """Return the first day at or after *day* that passes the tests and lies in a period of the rule."""
        for _ in range(SEARCH_DAYS):
            if day * DAY_S >= END_S:
                return None
            on = date.fromordinal(day + _EPOCH_DAY)
            if not self._in_months(on):
                day += monthrange(on.year, on.month)[1] - on.day + 1
            elif (beyond := self._beyond(on)) != 0:
                day = self._period_start(self._day_period(on) + self._parts.interval - beyond)
            elif all(test(on) for test in self._tests):
                return day
            else:
                day += 1
        return None

    def _in_months(self, on: date) -> bool:
        return not self._parts.months or on.month in self._parts.months

    def _beyond(self, on: date) -> int:
        """Return how many periods the day lies behind a period of the rule; 0 when in one, or when periods are shorter than days."""
        if self._parts.frequency > Frequency.DAILY:
            return 0
        return (self._day_period(on) - self._base) % self._parts.interval

    def _first_picked(self, wall_s: int) -> int | None:
        """Return the first match at or after *wall_s* whose number in its period BYSETPOS names."""
        period = self._period(wall_s)
        period += -(period - self._base) % self._parts.interval
        for _ in range(SEARCH_DAYS // _PERIOD_DAYS[self._parts.frequency]):
            if self._period_start(period) * DAY_S >= END_S:
                return None
            walls = self._picked(period)
            if walls and walls[-1] >= wall_s:
                return walls[bisect_left(walls, wall_s)]
            period += self._parts.interval
        return None

    def _picked(self, period: int) -> list[int]:
        """Return the slots of *period*, ascending; the last period asked for is remembered."""
        known, walls = self._period_walls
        if known != period:
            walls = self._pick(period)
            self._period_walls = (period, walls)
        return walls

    def _pick(self, period: int) -> list[int]:
        days = self._matching_days(self._period_start(period), self._period_start(period + 1))
        each = len(self._times)
        total = len(days) * each
        places = {place - 1 if place > 0 else total + place for place in self._parts.positions}
        return [days[place // each] * DAY_S + self._times.at(place % each) for place in sorted(places) if 0 <= place < total]

    def _matching_days(self, first_day: int, end_day: int) -> list[int]:
        days = ((day, date.fromordinal(day + _EPOCH_DAY)) for day in range(first_day, end_day))
        return [day for day, on in days if self._in_months(on) and all(test(on) for test in self._tests)]

    def _period(self, wall_s: int) -> int:
        """Return the number of the period that holds *wall_s*."""
        if unit_s := _UNIT_S.get(self._parts.frequency):
            return wall_s // unit_s
        return self._day_period(date.fromordinal(wall_s // DAY_S + _EPOCH_DAY))

    def _day_period(self, on: date) -> int:
        match self._parts.frequency:
            case Frequency.YEARLY:
                return on.year
            case Frequency.MONTHLY:
                return on.year * 12 + on.month - 1
            case Frequency.WEEKLY:
                return (on.toordinal() - 1 - self._parts.week_start) // 7
            case _:
                return on.toordinal() - _EPOCH_DAY

    def _period_start(self, period: int) -> int:
        """Return the first day of a period of a day or more."""
        match self._parts.frequency:
            case Frequency.YEARLY:
                return _first_of_month(period, 1)
            case Frequency.MONTHLY:
                return _first_of_month(period // 12, period % 12 + 1)
            case Frequency.WEEKLY:
                return period * 7 + 1 + self._parts.week_start - _EPOCH_DAY
            case _:
                return period

    def _count_off(self, count: int) -> int:
        """Return the wall time of slot number *count*."""
        wall_s, limit_s = self._start_s - 1, self._start_s + _COUNT_YEARS * 366 * DAY_S
        for _ in range(count):
            found = self.first_wall(wall_s + 1)
            if found is None:
                return wall_s
            if found > limit_s:
                raise InvalidSchedule(f"COUNT={count} reaches further than {_COUNT_YEARS} years; use UNTIL")
            wall_s = found
        return wall_s


def _first_of_month(year: int, month: int) -> int:
    return date(year, month, 1).toordinal() - _EPOCH_DAY if year < 9999 else END_S // DAY_S


def _completed(parts: RRuleParts, start_s: int) -> RRuleParts:
    """Return *parts* with the days that the rule leaves open taken from its start."""
    on = date.fromordinal(start_s // DAY_S + _EPOCH_DAY)
    if not parts.names_days:
        if parts.frequency == Frequency.YEARLY:
            parts = replace(parts, months=parts.months or frozenset({on.month}), month_days=frozenset({on.day}))
        elif parts.frequency == Frequency.MONTHLY:
            parts = replace(parts, month_days=frozenset({on.day}))
        elif parts.frequency == Frequency.WEEKLY:
            parts = replace(parts, weekdays=frozenset({on.weekday()}))
    hour, rest = divmod(start_s % DAY_S, 3600)
    return _with_times(parts, hour, *divmod(rest, 60))


def _with_times(parts: RRuleParts, hour: int, minute: int, second: int) -> RRuleParts:
    """Return *parts* with its hours, minutes and seconds filled in: all of them, or that of the start below the frequency."""
    frequency = parts.frequency
    return replace(
        parts,
        hours=parts.hours or frozenset({hour} if frequency < Frequency.HOURLY else range(24)),
        minutes=parts.minutes or frozenset({minute} if frequency < Frequency.MINUTELY else range(60)),
        seconds=parts.seconds or frozenset({second} if frequency < Frequency.SECONDLY else range(60)),
    )


def _times(parts: RRuleParts) -> DayTimes:
    return DayTimes(hours=mask_of(parts.hours), minutes=mask_of(parts.minutes), seconds=mask_of(parts.seconds))


@dataclass(frozen=True, slots=True)
class RRule:
    """The slots of a recurrence *rule* read in *zone*, the first at or after *start_ms* (whose fraction of a second is dropped).

    Raises InvalidSchedule for a text that is not such a rule, or a rule that never fires.
    """

    rule: str
    zone: str
    start_ms: int
    _timetable: "_Timetable" = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.rule, str):
            raise InvalidSchedule(f"a recurrence rule is a string such as 'FREQ=DAILY;BYHOUR=9', not {self.rule!r}")
        if not isinstance(self.start_ms, int) or isinstance(self.start_ms, bool):
            raise InvalidSchedule(f"the start of recurrence rule {self.rule!r} is in whole UTC milliseconds, not {self.start_ms!r}")
        if not FIRST_S + DAY_S <= self.start_ms // 1000 < END_S - DAY_S:
            raise InvalidSchedule(f"the start of recurrence rule {self.rule!r} lies outside the years 1 to 9998: {self.start_ms} ms")
        zone(self.zone)
        object.__setattr__(self, "_timetable", _timetable(self.rule, self.zone, self.start_ms // 1000))

    def next_after(self, after_ms: int) -> int | None:
        """Return the first slot strictly after *after_ms*, or None when the rule is over."""
        slot_s = self._timetable.next_after_s(after_ms // 1000)
        return None if slot_s is None else slot_s * 1000


class _Timetable:
    """The instants of one rule begun at one instant in one zone."""

    __slots__ = ("_start_s", "_stepper", "_until_s", "_zone")

    def __init__(self, parts: RRuleParts, zone_name: str, start_s: int) -> None:
        self._zone = zone_name
        self._start_s = start_s
        self._stepper = _Stepper(parts, start_s + span_at(zone_name, start_s).offset_s)
        self._until_s = END_S - 1 if parts.until is None else _until_s(parts.until, zone_name)

    def next_after_s(self, after_s: int) -> int | None:
        after_s = max(after_s, self._start_s - 1)
        if after_s >= self._until_s:
            return None
        wall_s = self._stepper.first_wall(first_unseen_wall(self._zone, after_s))
        if wall_s is None or wall_s >= END_S:
            return None
        instant_s = first_instant(self._zone, wall_s)
        return instant_s if instant_s <= self._until_s else None


@lru_cache(maxsize=4096)
def _timetable(rule: str, zone_name: str, start_s: int) -> _Timetable:
    timetable = _Timetable(parse_rrule(rule), zone_name, start_s)
    if timetable.next_after_s(start_s - 1) is None:
        raise InvalidSchedule(f"recurrence rule {rule!r} has no slot in sight of its start; check its BY… parts, UNTIL and INTERVAL")
    return timetable


def _until_s(until: str, zone_name: str) -> int:
    """Return the last instant that UNTIL allows: a date means the whole day, a time without Z is wall time."""
    text = until.rstrip("Z") if "T" in until else until + "T235959"
    try:
        moment = datetime.strptime(text + "+0000", "%Y%m%dT%H%M%S%z")
    except ValueError as error:
        raise InvalidSchedule(f"UNTIL={until} is not a moment: {error}") from error
    wall_s = (moment - _EPOCH) // timedelta(seconds=1)
    if until.endswith("Z"):
        return min(wall_s, END_S - 1)
    return first_instant(zone_name, min(wall_s, END_S - 1 - DAY_S))
