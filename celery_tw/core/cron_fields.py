"""CronFields: a cron expression, read once and expanded to bit masks.

croniter is the authority on what an expression may say: five fields, or six with the seconds first; names, ranges, steps, ``L``, ``#``,
``W``, and ``H`` when a hash id is given. Its iteration is not used. On top of it this module decides:

* ``@daily`` and its like mean their plain expansion, with or without a hash id; write ``H H * * *`` to spread.
* ``R`` (random) is refused: each process would draw another schedule.
* A day field that holds ``*`` or is ``?`` is unrestricted. When both day fields are restricted a day needs to match one of them
  (*day_or*, as in Vixie's cron), else both (as in Celery's crontab). So ``*/2`` with a weekday means both, as crontab(5) has it.
* A job is a *fixed-time* job when its minute and hour fields hold neither ``*`` nor a step; ``core/cron.py`` says what follows.

Which days of a month match depends only on its length and its first weekday: 28 masks say everything, and prove that an expression such
as 30 February never matches.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from croniter import croniter

from celery_tw.core.day_times import DayTimes, mask_of
from celery_tw.errors import InvalidSchedule

ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
MAX_LENGTH = 256
MAX_LIST_ITEMS = 64

_ANY = "*"
_LAST = "l"
_RANDOM = re.compile(r"r(\(|/|$)")
_NTH = re.compile(r"#|^l\d")
_HASHED = re.compile(r"h(\(|/|$)")
_EXPECTED = "expected 'minute hour day month weekday', seconds first if there are six fields, or one of " + ", ".join(ALIASES)


@dataclass(frozen=True, slots=True)
class CronFields:
    """What an expression matches: *months* and the days by kind of month as bit masks, and the times of day."""

    times: DayTimes
    months: int
    days_by_month_kind: tuple[int, ...]
    fixed_time: bool

    def days(self, *, month: int, length: int, first_weekday: int) -> int:
        """Return the matching days of a month, bit 0 being the first; *first_weekday* counts from Sunday = 0."""
        if not self.months >> month & 1:
            return 0
        return self.days_by_month_kind[(length - 28) * 7 + first_weekday]


@dataclass(frozen=True, slots=True)
class _DayRule:
    days: frozenset[int | str]
    nearest_weekdays: frozenset[int]
    weekdays: frozenset[int | str]
    nth_weekdays: frozenset[tuple[int | str, int | str]]
    either: bool

    def mask(self, length: int, first_weekday: int) -> int:
        by_day = mask_of(day - 1 for day in range(1, length + 1) if self._by_day(day, length, first_weekday))
        by_weekday = mask_of(day - 1 for day in range(1, length + 1) if self._by_weekday(day, length, first_weekday))
        return by_day | by_weekday if self.either else by_day & by_weekday

    def _by_day(self, day: int, length: int, first_weekday: int) -> bool:
        if self.nearest_weekdays:
            return any(day == _nearest_weekday(wanted, length, first_weekday) for wanted in self.nearest_weekdays)
        return _ANY in self.days or day in self.days or (_LAST in self.days and day == length)

    def _by_weekday(self, day: int, length: int, first_weekday: int) -> bool:
        weekday = (first_weekday + day - 1) % 7
        if not self.nth_weekdays:
            return _ANY in self.weekdays or weekday in self.weekdays
        names: set[tuple[int | str, int | str]] = {(weekday, (day + 6) // 7)}
        if day + 7 > length:
            names.add((weekday, _LAST))
        return not names.isdisjoint(self.nth_weekdays)


def parse_cron(expression: str, *, day_or: bool, hash_id: str) -> CronFields:
    """Read *expression*; raise InvalidSchedule when it is malformed, too long, random or can never match."""
    texts = _texts(expression)
    parsed = _croniter(expression, texts, hash_id)
    minutes, hours, days, months, weekdays, *seconds = parsed.expanded
    rule = _DayRule(
        days=frozenset(days),
        nearest_weekdays=frozenset(getattr(parsed, "nearest_weekday", ())),
        weekdays=frozenset(weekdays),
        nth_weekdays=_nth_weekdays(parsed),
        either=day_or and _restricted(texts[-3]) and _restricted(texts[-1]),
    )
    fields = CronFields(
        times=DayTimes(hours=_mask(hours, 0, 23), minutes=_mask(minutes, 0, 59), seconds=_mask(seconds[0] if seconds else [0], 0, 59)),
        months=_mask(months, 1, 12),
        days_by_month_kind=_masks_by_month_kind(rule),
        fixed_time=not any(sign in text for text in (texts[-5], texts[-4]) for sign in "*/"),
    )
    _refuse_impossible(expression, fields)
    return fields


def _texts(expression: str) -> list[str]:
    """Return the fields of *expression* in lower case."""
    if not expression.strip() or len(expression) > MAX_LENGTH:
        raise InvalidSchedule(
            f"a cron expression has 1 to {MAX_LENGTH} characters, this has {len(expression)}: {expression[:60]!r}; {_EXPECTED}"
        )
    text = expression.strip().lower()
    if not text.isascii():
        raise InvalidSchedule(f"cron expression {expression!r} holds signs outside ASCII; {_EXPECTED}")
    texts = ALIASES.get(text, text).split()
    if len(texts) not in (5, 6):
        raise InvalidSchedule(f"cron expression {expression!r} has {len(texts)} fields; {_EXPECTED}")
    for field in texts:
        _check_field(expression, field)
    return texts


def _check_field(expression: str, field: str) -> None:
    items = field.split(",")
    if len(items) > MAX_LIST_ITEMS:
        raise InvalidSchedule(
            f"a field of cron expression {expression[:60]!r} lists {len(items)} values, "
            f"at most {MAX_LIST_ITEMS} are taken; use a range or a step"
        )
    if any(_RANDOM.match(item) for item in items):
        raise InvalidSchedule(f"cron expression {expression!r} uses R (random), which no two processes agree on; use H with a hash id")
    nth = [bool(_NTH.search(item)) for item in items]
    if any(nth) and not all(nth):
        raise InvalidSchedule(f"cron expression {expression!r} mixes weekdays with and without '#' or L in {field!r}; write two entries")


def _croniter(expression: str, texts: list[str], hash_id: str) -> croniter:
    if not hash_id and any(_HASHED.match(item) for field in texts for item in field.split(",")):
        raise InvalidSchedule(f"cron expression {expression!r} uses H; give a hash id, such as the name of the entry")
    try:
        return croniter(" ".join(texts), 0.0, hash_id=hash_id.encode() if hash_id else None, second_at_beginning=True)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise InvalidSchedule(f"cron expression {expression!r} is not valid ({error}); {_EXPECTED}") from error


def _restricted(field: str) -> bool:
    return _ANY not in field and field != "?"


def _mask(values: Sequence[int | str], low: int, high: int) -> int:
    return mask_of(range(low, high + 1) if _ANY in values else [int(value) for value in values])


def _nth_weekdays(parsed: croniter) -> frozenset[tuple[int | str, int | str]]:
    return frozenset((weekday, nth) for weekday, all_nth in parsed.nth_weekday_of_month.items() for nth in all_nth)


def _masks_by_month_kind(rule: _DayRule) -> tuple[int, ...]:
    return tuple(rule.mask(length, first_weekday) for length in range(28, 32) for first_weekday in range(7))


def _nearest_weekday(day: int, length: int, first_weekday: int) -> int:
    """Return the day from Monday to Friday that is nearest to *day* and in the same month."""
    day = min(day, length)
    weekday = (first_weekday + day - 1) % 7
    if weekday == 6:
        return day - 1 if day > 1 else day + 2
    if weekday == 0:
        return day + 1 if day < length else day - 2
    return day


@lru_cache(maxsize=12)
def _lengths(month: int) -> tuple[int, ...]:
    return (28, 29) if month == 2 else (30,) if month in (4, 6, 9, 11) else (31,)


def _refuse_impossible(expression: str, fields: CronFields) -> None:
    kinds = ((month, length, weekday) for month in range(1, 13) for length in _lengths(month) for weekday in range(7))
    if not any(fields.days(month=month, length=length, first_weekday=weekday) for month, length, weekday in kinds):
        raise InvalidSchedule(f"cron expression {expression!r} never fires: no month has such a day; check its day and month fields")
