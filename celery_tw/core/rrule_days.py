"""Which days a recurrence rule names: one test for each BY… part that speaks of days.

Parts of one rule narrow each other, values of one part add up. Numbers below zero count from the end; a day therefore has two names in
each part, such as the 31st and the -1st, and passes when the rule gives either.
"""

from calendar import monthrange
from collections.abc import Callable
from datetime import date, timedelta

from celery_tw.core.rrule_parts import Frequency, RRuleParts

DayTest = Callable[[date], bool]


def day_tests(parts: RRuleParts) -> list[DayTest]:
    """Return what a day must pass to be a day of the rule, apart from BYMONTH."""
    tests: list[DayTest] = []
    if parts.month_days:
        tests.append(lambda on: not parts.month_days.isdisjoint(_month_day_names(on)))
    if parts.year_days:
        tests.append(lambda on: not parts.year_days.isdisjoint(_year_day_names(on)))
    if parts.week_numbers:
        tests.append(lambda on: not parts.week_numbers.isdisjoint(_week_names(on, parts.week_start)))
    if parts.weekdays or parts.nth_weekdays:
        in_year = parts.frequency == Frequency.YEARLY and not parts.months
        tests.append(lambda on: on.weekday() in parts.weekdays or _is_nth(on, parts.nth_weekdays, in_year=in_year))
    return tests


def _month_day_names(on: date) -> tuple[int, int]:
    return on.day, on.day - monthrange(on.year, on.month)[1] - 1


def _year_day_names(on: date) -> tuple[int, int]:
    year_day, length = _place_in_year(on)
    return year_day, year_day - length - 1


def _place_in_year(on: date) -> tuple[int, int]:
    before = date(on.year, 1, 1).toordinal() - 1
    return on.toordinal() - before, date(on.year, 12, 31).toordinal() - before


def _week_names(on: date, week_start: int) -> tuple[int, int]:
    """Return the number of the day's week from the start and from the end of the year that holds most of that week."""
    middle = on + timedelta(days=3 - (on.weekday() - week_start) % 7)
    year_day, length = _place_in_year(middle)
    return (year_day - 1) // 7 + 1, -((length - year_day) // 7 + 1)


def _is_nth(on: date, nth_weekdays: frozenset[tuple[int, int]], *, in_year: bool) -> bool:
    if not nth_weekdays:
        return False
    place, length = _place_in_year(on) if in_year else (on.day, monthrange(on.year, on.month)[1])
    names = {((place - 1) // 7 + 1, on.weekday()), (-((length - place) // 7 + 1), on.weekday())}
    return not names.isdisjoint(nth_weekdays)
