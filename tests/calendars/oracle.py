"""Oracle: the slots of a cron expression by looking at the minutes themselves.

Nothing is shared with the code under test: the expression is read by a few lines here, the days of a pattern are found one by one, and the
offset of a zone is asked of ``zoneinfo`` at every minute for two hours before and thirty after each change. There the rules are applied
word by word:

* a *rhythm* fires at each instant whose wall time matches;
* a *fixed time* fires at the first instant at which a matching wall time has been reached that the clock had not reached before.

Farther from a change, wall time is UTC plus a constant, and a slot is a matching day and minute. Changes themselves are found by looking
every half hour: no zone has ever taken a change back within that.

Minutes and days are counted from 1970-01-01.
"""

from bisect import bisect_left
from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from zoneinfo import ZoneInfo

DAY = 1440
HALF_HOUR = 30
BEFORE, AFTER = 120, 1800
_EPOCH_DAY = date(1970, 1, 1).toordinal()


@dataclass(frozen=True)
class Pattern:
    """What an expression says of the wall clock: minutes of the day, days, and whether it names a time of day."""

    minutes: frozenset[int]
    days: frozenset[int]
    fixed_time: bool

    def matches(self, wall: int) -> bool:
        return wall % DAY in self.minutes and wall // DAY in self.days


def read_pattern(expression: str, years: range) -> Pattern:
    """Return the pattern of a five-field *expression* made of numbers, ``*``, ranges, lists, steps, ``L`` and ``#``, over *years*."""
    minute, hour, day, month, weekday = expression.split()
    months = set(_values(month, 1, 12))
    first, end = date(years[0], 1, 1).toordinal() - 2, date(years[-1], 12, 31).toordinal() + 3
    dates = (date.fromordinal(ordinal) for ordinal in range(first, end))
    return Pattern(
        minutes=frozenset(h * 60 + m for h in _values(hour, 0, 23) for m in _values(minute, 0, 59)),
        days=frozenset(on.toordinal() - _EPOCH_DAY for on in dates if on.month in months and _is_day(on, day, weekday)),
        fixed_time=not set("*/") & set(minute + hour),
    )


def _is_day(on: date, day: str, weekday: str) -> bool:
    length = monthrange(on.year, on.month)[1]
    by_day = any(on.day == (length if item == "L" else int(item)) for item in _items(day, 1, 31))
    by_weekday = any(_is_weekday(on, item, length) for item in _items(weekday, 0, 7))
    either = "*" not in day and "*" not in weekday
    return by_day or by_weekday if either else by_day and by_weekday


def _is_weekday(on: date, item: str, length: int) -> bool:
    name, _, number = item.partition("#")
    if item.startswith("L"):
        return on.isoweekday() % 7 == int(item[1:]) % 7 and on.day + 7 > length
    return on.isoweekday() % 7 == int(name) % 7 and (not number or (on.day + 6) // 7 == int(number))


def _items(field: str, low: int, high: int) -> Iterator[str]:
    for item in field.split(","):
        if "L" in item or "#" in item:
            yield item
        else:
            yield from map(str, _values(item, low, high))


def _values(field: str, low: int, high: int) -> Iterator[int]:
    for item in field.split(","):
        span, _, step = item.partition("/")
        first, dash, last = (str(low), "-", str(high)) if span == "*" else span.partition("-")
        yield from range(int(first), (int(last) if dash else int(first)) + 1, int(step or 1))


@dataclass(frozen=True)
class Moment:
    """One minute near a change: its number, what the wall clock shows, and the most it had shown before."""

    instant: int
    wall: int
    seen: int


class Calendar:
    """The minutes of one zone in *years*."""

    def __init__(self, name: str, years: range) -> None:
        self.zone = ZoneInfo(name)
        self.start = _minute(datetime(years[0], 1, 1, tzinfo=UTC))
        self.end = _minute(datetime(years[-1] + 1, 1, 1, tzinfo=UTC))

    def offset(self, instant: int) -> int:
        """Return the zone's offset in minutes."""
        offset = datetime.fromtimestamp(instant * 60, self.zone).utcoffset()
        assert offset is not None
        assert offset % timedelta(minutes=1) == timedelta(0)
        return offset // timedelta(minutes=1)

    @cached_property
    def changes(self) -> list[int]:
        """The minutes from which on the offset is another."""
        found = []
        before = self.offset(self.start - AFTER)
        for instant in range(self.start - AFTER, self.end, HALF_HOUR):
            after = self.offset(instant)
            if after != before:
                found.append(next(at for at in range(instant - HALF_HOUR, instant + 1) if self.offset(at) != before))
            before = after
        return found

    @cached_property
    def rules(self) -> tuple[tuple[int, int], ...]:
        """The changes with the offset after each, the first offset before them: what makes zones keep the same time."""
        return tuple((at, self.offset(at)) for at in (self.start - AFTER - HALF_HOUR, *self.changes))

    @cached_property
    def windows(self) -> list[range]:
        """The stretches of minutes around the changes, which do not meet."""
        windows: list[range] = []
        for change in self.changes:
            start, end = max(change - BEFORE, self.start), min(change + AFTER, self.end)
            if windows and windows[-1].stop >= start:
                start = windows.pop().start
            if start < end:
                windows.append(range(start, end))
        return windows

    @cached_property
    def even_windows(self) -> list[range]:
        """The windows whose changes are of whole hours, at whole hours: the ones that cronsim can judge.

        Across others it misses slots of an hourly rhythm (Lord Howe) or looks for the next slot for ever (St. John's, 00:01).
        """
        odd = [change for change in self.changes if self._is_odd(change)]
        return [
            window for window in self.windows if not any(change - BEFORE < window.stop and change + AFTER > window.start for change in odd)
        ]

    def _is_odd(self, change: int) -> bool:
        before, after = self.offset(change - 1), self.offset(change)
        return (change + before) % 60 != 0 or (after - before) % 60 != 0

    @cached_property
    def even_stretches(self) -> list[range]:
        """All minutes but those of the other windows."""
        even = set(self.even_windows)
        odd = [window for window in self.windows if window not in even]
        starts = [self.start, *(window.stop for window in odd)]
        ends = [*(window.start for window in odd), self.end]
        return [range(start, end) for start, end in zip(starts, ends, strict=True) if start < end]

    @cached_property
    def moments(self) -> list[Moment]:
        """Every minute of the windows."""
        found = []
        for window in self.windows:
            seen = max(at + self.offset(at) for at in range(window.start - AFTER, window.start))
            for instant in window:
                wall = instant + self.offset(instant)
                found.append(Moment(instant, wall, seen))
                seen = max(seen, wall)
        return found

    def slots(self, pattern: Pattern) -> list[int]:
        """Return all slots, ascending."""
        return sorted([*self._far_from_changes(pattern), *self.near_changes(pattern)])

    def near_changes(self, pattern: Pattern) -> list[int]:
        """Return the slots within the windows."""
        if not pattern.fixed_time:
            return [moment.instant for moment in self.moments if pattern.matches(moment.wall)]
        return [m.instant for m in self.moments if any(pattern.matches(wall) for wall in range(m.seen + 1, m.wall + 1))]

    def _far_from_changes(self, pattern: Pattern) -> Iterator[int]:
        minutes, days = sorted(pattern.minutes), sorted(pattern.days)
        starts = [self.start, *(window.stop for window in self.windows)]
        ends = [*(window.start for window in self.windows), self.end]
        for start, end in zip(starts, ends, strict=True):
            offset = self.offset(start)
            for day in days[bisect_left(days, (start + offset) // DAY) : bisect_left(days, (end + offset) // DAY + 1)]:
                yield from (at for minute in minutes if start <= (at := day * DAY + minute - offset) < end)


def _minute(moment: datetime) -> int:
    return int(moment.timestamp()) // 60
