"""Sweep: one zone, all expressions, both oracles, every difference."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim

from celery_tw.core.cron import Cron
from celery_tw.core.rrule import RRule
from tests.calendars.expressions import EXPRESSIONS, Expression
from tests.calendars.oracle import Calendar, Pattern, read_pattern

MINUTE_MS = 60_000
STRIDE = 13
SHOWN = 5
"""Differences of one expression that a finding shows."""

NextAfter = Callable[[int], int | None]


@dataclass(frozen=True)
class Difference:
    """A slot that only one side has."""

    zone: str
    expression: str
    judge: str
    slot: str
    ours: bool

    def __str__(self) -> str:
        return f"{self.zone} '{self.expression}' {self.slot}: {'only ours' if self.ours else f'only of {self.judge}'}"


@dataclass(frozen=True)
class Finding:
    """What the comparison of one zone came to."""

    changes: int
    slots: int
    questions: int
    cronsim_slots: int
    differences: list[Difference]


def sweep(zone: str, years: range, expressions: tuple[Expression, ...] = EXPRESSIONS, *, calendar: Calendar | None = None) -> Finding:
    """Compare all *expressions* in *zone*; a *calendar* of it that exists already saves making one."""
    return _Sweep(zone, years, calendar or Calendar(zone, years)).run(expressions)


class _Sweep:
    def __init__(self, zone: str, years: range, calendar: Calendar) -> None:
        self.zone, self.years = zone, years
        self.calendar = calendar
        self.slots = self.questions = self.cronsim_slots = 0
        self.differences: list[Difference] = []

    def run(self, expressions: tuple[Expression, ...]) -> Finding:
        for expression in expressions:
            self._compare(expression, _pattern(expression.cron, self.years))
        return Finding(len(self.calendar.changes), self.slots, self.questions, self.cronsim_slots, self.differences)

    def _compare(self, expression: Expression, pattern: Pattern) -> None:
        cron = Cron(expression.cron, self.zone)
        if expression.dense:
            expected = self.calendar.near_changes(pattern)
            found = [slot for window in self.calendar.windows for slot in _walk(cron.next_after, window)]
        else:
            expected = self.calendar.slots(pattern)
            found = list(_walk(cron.next_after, range(self.calendar.start, self.calendar.end)))
        self.slots += len(found)
        self._differ(expression.cron, "the scan", found, expected)
        self._ask_anywhere(expression, cron.next_after, expected)
        if expression.rule:
            rule = RRule(expression.rule, self.zone, (self.calendar.start - 1440) * MINUTE_MS)
            found_by_rule = list(_walk(rule.next_after, range(self.calendar.start, self.calendar.end)))
            self.slots += len(found_by_rule)
            self._differ(expression.rule, "the scan", found_by_rule, expected)
        if expression.cronsim:
            self._compare_with_cronsim(expression, found)

    def _ask_anywhere(self, expression: Expression, next_after: NextAfter, expected: list[int]) -> None:
        """Ask from moments that are no slots, near the changes, in either direction of time."""
        for window in self.calendar.windows:
            for instant in [*window[::STRIDE], *window[:: -STRIDE * 5]]:
                place = bisect_right(expected, instant)
                if place == len(expected) or (expression.dense and expected[place] not in window):
                    continue
                self.questions += 1
                answer = next_after(instant * MINUTE_MS + 30_000)
                if answer != expected[place] * MINUTE_MS:
                    self._differ(expression.cron, "the scan", [] if answer is None else [answer // MINUTE_MS], [expected[place]])

    def _compare_with_cronsim(self, expression: Expression, found: list[int]) -> None:
        for stretch in self.calendar.even_windows if expression.dense else self.calendar.even_stretches:
            expected = list(_walk_cronsim(expression.cron, self.zone, stretch))
            self.cronsim_slots += len(expected)
            ours = found[bisect_left(found, stretch.start) : bisect_left(found, stretch.stop)]
            self._differ(expression.cron, "cronsim", ours, expected)

    def _differ(self, text: str, judge: str, found: list[int], expected: list[int]) -> None:
        if found == expected:
            return
        ours, theirs = set(found) - set(expected), set(expected) - set(found)
        for slot in sorted(ours | theirs)[:SHOWN]:
            when = datetime.fromtimestamp(slot * 60, UTC).strftime("%Y-%m-%d %H:%M UTC")
            self.differences.append(Difference(self.zone, text, judge, when, slot in ours))


@lru_cache
def _pattern(expression: str, years: range) -> Pattern:
    return read_pattern(expression, years)


def _walk(next_after: NextAfter, stretch: range) -> Iterator[int]:
    slot_ms = next_after(stretch.start * MINUTE_MS - 1)
    end_ms = stretch.stop * MINUTE_MS
    while slot_ms is not None and slot_ms < end_ms:
        yield slot_ms // MINUTE_MS
        slot_ms = next_after(slot_ms)


def _walk_cronsim(expression: str, zone: str, stretch: range) -> Iterator[int]:
    """Yield cronsim's slots; it repeats the end of a gap when two jobs meet there."""
    start = datetime.fromtimestamp(stretch.start * 60, UTC) - timedelta(minutes=1)
    last = stretch.start - 1
    for slot in CronSim(expression, start.astimezone(ZoneInfo(zone))):
        at = int(slot.timestamp()) // 60
        if at >= stretch.stop:
            return
        if at > last:
            last = at
            yield at
