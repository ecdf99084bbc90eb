"""RRuleParts: the text of a recurrence rule (RFC 5545), read strictly.

``FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=17;COUNT=12``: parts of the form NAME=VALUE, each at most once. The start is not part of the text, it
comes with the entry; ``DTSTART``, ``EXRULE``, ``RDATE`` and ``EXDATE`` are refused. Lists are bounded and every number is checked,
because rules are stored and a stored rule must not be able to stall a leader.

Where the RFC leaves room: an ``UNTIL`` that is a date includes that day; BYSETPOS is refused with a frequency finer than a day.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from celery_tw.errors import InvalidSchedule

MAX_LENGTH = 1024
MAX_LIST_ITEMS = 64
MAX_INTERVAL = 100_000
MAX_COUNT = 10_000
WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")

_PARTS = (
    "FREQ", "INTERVAL", "COUNT", "UNTIL", "WKST", "BYMONTH", "BYWEEKNO", "BYYEARDAY", "BYMONTHDAY",
    "BYDAY", "BYHOUR", "BYMINUTE", "BYSECOND", "BYSETPOS",
)  # fmt: skip
_NOT_IN_A_RULE = ("DTSTART", "DTEND", "DURATION", "EXRULE", "RDATE", "EXDATE", "TZID")
_NUMBER = re.compile(r"[+-]?\d{1,6}", re.ASCII)
_BYDAY = re.compile(r"([+-]?\d{1,2})?(MO|TU|WE|TH|FR|SA|SU)", re.ASCII)
_UNTIL = re.compile(r"\d{8}(T\d{6}Z?)?", re.ASCII)


class Frequency(IntEnum):
    """The unit in which a rule counts its periods, from the coarsest to the finest."""

    YEARLY = 0
    MONTHLY = 1
    WEEKLY = 2
    DAILY = 3
    HOURLY = 4
    MINUTELY = 5
    SECONDLY = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class RRuleParts:
    """A rule in parts. An empty set means that the rule does not say; weekdays count from Monday = 0."""

    frequency: Frequency
    interval: int
    count: int | None
    until: str | None
    week_start: int
    months: frozenset[int]
    week_numbers: frozenset[int]
    year_days: frozenset[int]
    month_days: frozenset[int]
    weekdays: frozenset[int]
    nth_weekdays: frozenset[tuple[int, int]]
    hours: frozenset[int]
    minutes: frozenset[int]
    seconds: frozenset[int]
    positions: frozenset[int]

    @property
    def names_days(self) -> bool:
        """Return whether the rule itself says on which days of its period it falls."""
        return bool(self.week_numbers or self.year_days or self.month_days or self.weekdays or self.nth_weekdays)


def parse_rrule(rule: str) -> RRuleParts:
    """Read *rule*; raise InvalidSchedule, naming the part, when it is not a rule or combines what cannot be combined."""
    texts = _split(rule)
    days = [_weekday(rule, item) for item in _items(rule, texts, "BYDAY")]
    parts = RRuleParts(
        frequency=_frequency(rule, texts),
        interval=_one(rule, texts, "INTERVAL", MAX_INTERVAL) or 1,
        count=_one(rule, texts, "COUNT", MAX_COUNT),
        until=_until(rule, texts),
        week_start=_week_start(rule, texts),
        months=_numbers(rule, texts, "BYMONTH", lambda n: 1 <= n <= 12),
        week_numbers=_numbers(rule, texts, "BYWEEKNO", lambda n: 1 <= abs(n) <= 53),
        year_days=_numbers(rule, texts, "BYYEARDAY", lambda n: 1 <= abs(n) <= 366),
        month_days=_numbers(rule, texts, "BYMONTHDAY", lambda n: 1 <= abs(n) <= 31),
        weekdays=frozenset(weekday for nth, weekday in days if nth == 0),
        nth_weekdays=frozenset((nth, weekday) for nth, weekday in days if nth != 0),
        hours=_numbers(rule, texts, "BYHOUR", lambda n: 0 <= n <= 23),
        minutes=_numbers(rule, texts, "BYMINUTE", lambda n: 0 <= n <= 59),
        seconds=_numbers(rule, texts, "BYSECOND", lambda n: 0 <= n <= 59),
        positions=_numbers(rule, texts, "BYSETPOS", lambda n: 1 <= abs(n) <= 366),
    )
    _check_together(rule, parts)
    return parts


def _split(rule: str) -> dict[str, str]:
    if not rule.strip() or len(rule) > MAX_LENGTH:
        raise InvalidSchedule(f"a recurrence rule has 1 to {MAX_LENGTH} characters, this has {len(rule)}: {rule[:60]!r}; write FREQ=…")
    texts: dict[str, str] = {}
    for part in rule.strip().upper().removeprefix("RRULE:").rstrip(";").split(";"):
        name, equals, value = part.partition("=")
        _check_name(rule, name, texts)
        if not equals or not value:
            raise InvalidSchedule(f"recurrence rule {rule!r}: expected NAME=VALUE, got {part!r}")
        texts[name] = value
    return texts


def _check_name(rule: str, name: str, texts: dict[str, str]) -> None:
    if any(word in name for word in _NOT_IN_A_RULE):
        raise InvalidSchedule(f"recurrence rule {rule!r} holds {name!r}: give the start as an argument, one rule an entry")
    if name not in _PARTS:
        raise InvalidSchedule(f"recurrence rule {rule!r}: {name!r} is not a part of a rule; expected {', '.join(_PARTS)}")
    if name in texts:
        raise InvalidSchedule(f"recurrence rule {rule!r} gives {name} twice; join the values with commas")


def _frequency(rule: str, texts: dict[str, str]) -> Frequency:
    if (value := texts.get("FREQ", "")) not in Frequency.__members__:
        got = f"got FREQ={value}" if value else "FREQ is missing"
        raise InvalidSchedule(f"recurrence rule {rule!r}: {got}; expected FREQ= one of {', '.join(Frequency.__members__)}")
    return Frequency[value]


def _items(rule: str, texts: dict[str, str], name: str) -> list[str]:
    items = texts[name].split(",") if name in texts else []
    if len(items) > MAX_LIST_ITEMS:
        raise InvalidSchedule(f"{name} of recurrence rule {rule[:60]!r} lists {len(items)} values, at most {MAX_LIST_ITEMS} are taken")
    return items


def _numbers(rule: str, texts: dict[str, str], name: str, allowed: Callable[[int], bool]) -> frozenset[int]:
    items = _items(rule, texts, name)
    for item in items:
        if not _NUMBER.fullmatch(item) or not allowed(int(item)):
            raise InvalidSchedule(f"recurrence rule {rule!r}: {item!r} is no value of {name}")
    return frozenset(int(item) for item in items)


def _one(rule: str, texts: dict[str, str], name: str, most: int) -> int | None:
    if name not in texts:
        return None
    if not _NUMBER.fullmatch(texts[name]) or not 1 <= int(texts[name]) <= most:
        raise InvalidSchedule(f"recurrence rule {rule!r}: {name} is a number from 1 to {most:,}, got {texts[name]!r}")
    return int(texts[name])


def _weekday(rule: str, item: str) -> tuple[int, int]:
    """Return (ordinal or 0, weekday)."""
    match = _BYDAY.fullmatch(item)
    if not match or (match[1] and not 1 <= abs(int(match[1])) <= 53):
        raise InvalidSchedule(f"recurrence rule {rule!r}: {item!r} is no value of BYDAY; expected such as MO, 2TU or -1FR")
    return int(match[1] or 0), WEEKDAYS.index(match[2])


def _week_start(rule: str, texts: dict[str, str]) -> int:
    if (value := texts.get("WKST", "MO")) not in WEEKDAYS:
        raise InvalidSchedule(f"recurrence rule {rule!r}: WKST is one of {', '.join(WEEKDAYS)}, got {value!r}")
    return WEEKDAYS.index(value)


def _until(rule: str, texts: dict[str, str]) -> str | None:
    value = texts.get("UNTIL")
    if value is not None and not _UNTIL.fullmatch(value):
        raise InvalidSchedule(f"recurrence rule {rule!r}: UNTIL is such as 20271231, 20271231T170000 or 20271231T170000Z, got {value!r}")
    return value


def _check_together(rule: str, parts: RRuleParts) -> None:
    frequency = parts.frequency
    if parts.count and parts.until:
        raise InvalidSchedule(f"recurrence rule {rule!r} gives both COUNT and UNTIL; give one")
    if parts.nth_weekdays and (frequency > Frequency.MONTHLY or parts.week_numbers):
        raise InvalidSchedule(f"recurrence rule {rule!r}: an ordinal weekday needs FREQ=MONTHLY or YEARLY, without BYWEEKNO")
    if parts.week_numbers and frequency != Frequency.YEARLY:
        raise InvalidSchedule(f"recurrence rule {rule!r}: BYWEEKNO needs FREQ=YEARLY")
    if parts.positions and frequency > Frequency.DAILY:
        raise InvalidSchedule(f"recurrence rule {rule!r}: BYSETPOS needs FREQ=DAILY or coarser; list the times in BYHOUR and BYMINUTE")
