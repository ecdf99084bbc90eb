"""Zones: a time zone as a row of spans, each with one constant offset from UTC.

A schedule is written in wall time and fires at instants. Between two changes of the offset the two differ by a constant, so that all
arithmetic can be done on whole seconds; only the edges of a span need thought::

    New York, 8 March 2026, gap             New York, 1 November 2026, fold
    wall   … 01:59:59 | 03:00:00 …          wall   … 01:59:59 | 01:00:00 …
    span        -5 h  |  -4 h               span        -4 h  |  -5 h
    seen     02:00:00 ┘                     seen     02:00:00 ┘

``Span.seen_s`` is the wall time that the clock had reached just before the span began. It is less than the span's first wall time after
a gap and more after a fold. Wall times in this package are seconds since 1970-01-01 00:00 *as the clock on the wall shows it*.

The authority is :mod:`zoneinfo`, asked for the offset every three days and then by bisection: no zone in the tz database has ever kept an
offset for less than that (the shortest span of all, Freetown in September 1939, was four days).
"""

from bisect import bisect_right
from datetime import datetime, timedelta
from difflib import get_close_matches
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from celery_tw.errors import InvalidSchedule

DAY_S = 86_400
FIRST_S = -62_134_000_000
"""The first instant that schedules can see: January of the year 1."""
END_S = 253_370_764_800
"""The end of the last instant that schedules can see: 9999-01-01 00:00 UTC."""

_PROBE_S = 3 * DAY_S
_BLOCK_S = 366 * DAY_S


class Span(NamedTuple):
    """The instants *start_s* <= t < *end_s*, in which wall time is t + *offset_s*."""

    start_s: int
    end_s: int
    offset_s: int
    seen_s: int


def zone(name: str) -> ZoneInfo:
    """Return the zone of that IANA name, or raise InvalidSchedule with the nearest names."""
    if not isinstance(name, str):
        raise InvalidSchedule(f"a time zone is a name such as 'Europe/Berlin', not {name!r}")
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise InvalidSchedule(f"unknown time zone {name[:80]!r}; {_advice(name)}") from error


def span_at(name: str, instant_s: int) -> Span:
    """Return the span of the zone *name* that holds *instant_s*, which lies between FIRST_S and END_S."""
    spans = _block(name, instant_s // _BLOCK_S)
    return spans[bisect_right(spans, instant_s, key=_start) - 1]


def first_unseen_wall(name: str, after_s: int) -> int:
    """Return the least wall time that the clock has not shown at *after_s* or before."""
    span = span_at(name, after_s)
    return max(span.seen_s, after_s + 1 + span.offset_s)


def first_instant(name: str, wall_s: int) -> int:
    """Return the first instant at which the clock shows *wall_s* or later: after a gap its end, in a fold the first pass.

    Of what lies beyond the end of time the answer lies beyond it too.
    """
    span = span_at(name, max(wall_s - DAY_S, FIRST_S))
    while span.end_s < END_S and wall_s - span.offset_s >= span.end_s:
        span = span_at(name, span.end_s)
    return max(wall_s - span.offset_s, span.start_s)


def _start(span: Span) -> int:
    return span.start_s


@lru_cache(maxsize=4096)
def _block(name: str, index: int) -> tuple[Span, ...]:
    """Return the spans of one block of 366 days, cut at its ends and at the end of time."""
    start_s, end_s = index * _BLOCK_S, min((index + 1) * _BLOCK_S, END_S)
    where = zone(name)
    before_s = _offset_s(where, start_s - 1)
    offset_s = _offset_s(where, start_s)
    spans = []
    seen_s = _seen_s(where, start_s, before_s, offset_s)
    for change_s in _changes(where, start_s, end_s):
        spans.append(Span(start_s, change_s, offset_s, seen_s))
        start_s, seen_s = change_s, change_s + offset_s
        offset_s = _offset_s(where, change_s)
    return (*spans, Span(start_s, end_s, offset_s, seen_s))


def _seen_s(where: ZoneInfo, start_s: int, before_s: int, offset_s: int) -> int:
    """Return how far the wall clock had come before a block: a fold shortly before it reaches into it."""
    recent = [change_s + _offset_s(where, change_s - 1) for change_s in _changes(where, start_s - _PROBE_S, start_s)]
    return max([start_s + before_s, *recent])


def _changes(where: ZoneInfo, start_s: int, end_s: int) -> list[int]:
    """Return the instants strictly between *start_s* and *end_s* at which the offset changes."""
    changes = []
    known_s = _offset_s(where, start_s)
    for probe_s in range(start_s, end_s, _PROBE_S):
        until_s = min(probe_s + _PROBE_S, end_s) - 1
        offset_s = _offset_s(where, until_s)
        if offset_s != known_s:
            changes.append(_bisect_change(where, max(probe_s - 1, start_s), until_s))
        known_s = offset_s
    return changes


def _bisect_change(where: ZoneInfo, low_s: int, high_s: int) -> int:
    """Return the first instant after *low_s* with another offset than it; *high_s* has one."""
    offset_s = _offset_s(where, low_s)
    while high_s - low_s > 1:
        middle_s = (low_s + high_s) // 2
        if _offset_s(where, middle_s) == offset_s:
            low_s = middle_s
        else:
            high_s = middle_s
    return high_s


def _offset_s(where: ZoneInfo, instant_s: int) -> int:
    moment = datetime.fromtimestamp(max(FIRST_S, instant_s), where)
    return (moment.utcoffset() or timedelta()) // timedelta(seconds=1)


@lru_cache(maxsize=1)
def _names() -> dict[str, str]:
    return {name.lower(): name for name in available_timezones()}


def _advice(name: str) -> str:
    matches = get_close_matches(name.strip().lower()[:80], _names(), n=3, cutoff=0.7)
    if not matches:
        return "expected an IANA name such as 'Europe/Berlin' or 'UTC'"
    return "did you mean " + " or ".join(repr(_names()[match]) for match in matches) + "?"
