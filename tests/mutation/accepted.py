"""Accepted: mutants that change nothing anybody can see, each with the reason.

They are told by module, change and text of the line, so that a changed line asks anew.
"""

_BEFORE = "no wall time before that of the start is looked at"
_BEYOND = "what lies beyond the end of time is refused in another place as well"
_CACHE = "the place last visited is a pure cache; whatever it holds at first is replaced, or right"
_FAR = "how far is looked for what comes much sooner"
_LOWEST = "it is minus the lowest bit, which is as long"
_MAGNITUDE = "a bound of the work, or of what is kept, chosen by its order of magnitude"
_NO_EDGE = "no zone of the tz database changes its offset where a block begins"
_SHORT_CUT = "to sort a second is a short cut; as moments its ids go out just so"
_SAME = "the other branch comes to the same"

ACCEPTED: dict[tuple[str, str, str], str] = {
    ("core.bounds", "GtE to Gt", "if self.end_ms is not None and after_ms >= self.end_ms:"): _SAME,
    ("core.bounds", "LtE to Lt", "if longest_ms <= 0:"): _SAME,
    ("core.cron", "48 to 49", "SEARCH_S = 48 * 366 * DAY_S"): _FAR,
    ("core.cron", "366 to 367", "SEARCH_S = 48 * 366 * DAY_S"): _FAR,
    ("core.cron", "GtE to Gt", "if after_s >= END_S:"): _BEYOND,
    ("core.cron", "GtE to Gt", "if day >= END_S // DAY_S:"): _BEYOND,
    (
        "core.cron",
        "Lt to LtE",
        "if first_s < low_s or wall_s < first_s:  # a fold shows earlier wall times again; a gap swallowed the match",
    ): _SAME,
    ("core.cron", "Lt to LtE", "if self._fixed_time and low_s < span.seen_s:"): _SAME,
    ("core.cron", "LtE to Lt", "if not span.start_s <= after_s < span.end_s:"): _CACHE,
    ("core.cron", "0 to 1", "self._span = Span(0, 0, 0, 0)"): _CACHE,
    ("core.cron", "0 to 1", "self._month = _Month(0, 0, 0)"): _CACHE,
    ("core.cron", "min to max", "limit_s = min(span.end_s + SEARCH_S, END_S)"): _FAR,
    ("core.cron", "Lt to LtE", "while span.end_s < limit_s:"): _FAR,
    ("core.cron", "LtE to Lt", "if not month.first_day <= day < month.end_day:"): _CACHE,
    (
        "core.cron",
        "1704067200 to 1704067201",
        "_REFERENCE_S = 1_704_067_200  # 2024-01-01; every expression must fire within SEARCH_S of it",
    ): _FAR,
    (
        "core.cron_fields",
        "any to all",
        "return any(day == _nearest_weekday(wanted, length, first_weekday) for wanted in self.nearest_weekdays)",
    ): "croniter takes W with one day only",
    (
        "core.cron_fields",
        "59 to 60",
        "times=DayTimes(hours=_mask(hours, 0, 23), minutes=_mask(minutes, 0, 59), seconds=_mask(seconds[0] if seconds else [0], 0, 59)),",
    ): "all sixty seconds come before a sixty-first",
    (
        "core.cron_fields",
        "32 to 33",
        "return tuple(rule.mask(length, first_weekday) for length in range(28, 32) for first_weekday in range(7))",
    ): "no month has 32 days",
    (
        "core.cron_fields",
        "13 to 14",
        "kinds = ((month, length, weekday) for month in range(1, 13) for length in _lengths(month) for weekday in range(7))",
    ): "no expression names a thirteenth month",
    ("core.cron_fields", "12 to 13", "months=_mask(months, 1, 12),"): "no month is looked for beyond the twelfth",
    ("core.dag_state", "None returned", "return Verdict.RUN"): "whatever is neither a block nor a skip runs",
    ("core.day_times", "BitAnd to BitOr", "return (mask & -mask).bit_length() - 1"): _LOWEST,
    ("core.day_times", "1 to 2", "return -1"): "callers ask whether it is less than 0",
    ("core.death", "16000 to 16001", "LONGEST_TRACEBACK = 16_000"): _MAGNITUDE,
    (
        "core.identity",
        "False to True",
        "return _uuid(sha1(self._seed + name, usedforsecurity=False).digest(), version=5)",
    ): "it says what the digest is for, and changes none",
    ("core.identity", "16 to 17", "return _uuid(urandom(16), version=4)"): "only the first 16 are taken",
    ("core.interval", "LtE to Lt", "if until_ms <= after_ms:"): _SAME,
    ("core.lane", "1 to 2", "near = get_close_matches(str(value).lower(), LANES, n=1)"): "only the first is named",
    ("core.misfire", "10000 to 10001", "COUNT_LIMIT = 10_000"): _MAGNITUDE,
    (
        "core.misfire",
        "1 to 2",
        "count = count_between(recurrence, first_ms - 1, last_ms, limit=COUNT_LIMIT + 1)",
    ): "whatever is counted beyond the limit is told as the limit",
    ("core.recurrence", "1000 to 1001", "FIRST_WINDOW_MS = 1000"): _MAGNITUDE,
    ("core.recurrence", "2 to 3", "width_ms *= 2"): _MAGNITUDE,
    (
        "core.recurrence",
        "1 to 2",
        "slots = slots_between(recurrence, start_ms, until_ms, limit=wanted + 1)",
    ): "one more is asked for, to the same end",
    ("core.retry", "64 to 65", "MOST_DOUBLINGS = 64"): "each delay is at its cap by then",
    ("core.retry_delay", "30 to 31", "MOST_DOUBLINGS = 30"): "each delay is at its cap by then",
    (
        "core.rrule",
        "Gt to GtE",
        "places = {place - 1 if place > 0 else total + place for place in self._parts.positions}",
    ): "no position is 0",
    ("core.rrule", "48 to 49", "SEARCH_DAYS = 48 * 366"): _FAR,
    ("core.rrule", "366 to 367", "SEARCH_DAYS = 48 * 366"): _FAR,
    ("core.rrule", "FloorDiv to Mult", "for _ in range(SEARCH_DAYS // _PERIOD_DAYS[self._parts.frequency]):"): _FAR,
    **{
        (
            "core.rrule",
            what,
            "_PERIOD_DAYS = {Frequency.YEARLY: 366, Frequency.MONTHLY: 31, Frequency.WEEKLY: 7, Frequency.DAILY: 1}",
        ): _FAR
        for what in ("366 to 367", "31 to 32", "7 to 8", "1 to 2")
    },
    ("core.rrule", "GtE to Gt", "if self._period_start(period) * DAY_S >= END_S:"): _BEYOND,
    (
        "core.rrule",
        "1 to 2",
        "wall_s, limit_s = self._start_s - 1, self._start_s + _COUNT_YEARS * 366 * DAY_S",
    ): _BEFORE,
    (
        "core.rrule",
        "366 to 367",
        "wall_s, limit_s = self._start_s - 1, self._start_s + _COUNT_YEARS * 366 * DAY_S",
    ): _MAGNITUDE,
    ("core.rrule", "Gt to GtE", "if found > limit_s:"): _MAGNITUDE,
    **{
        (
            "core.rrule",
            what,
            "return date(year, month, 1).toordinal() - _EPOCH_DAY if year < 9999 else END_S // DAY_S",
        ): "that day of the year 9999 is reckoned to be the same"
        for what in ("Lt to LtE", "9999 to 10000")
    },
    (
        "core.rrule",
        "60 to 61",
        "seconds=parts.seconds or frozenset({second} if frequency < Frequency.SECONDLY else range(60)),",
    ): "all sixty seconds come before a sixty-first",
    ("core.rrule", "GtE to Gt", "if after_s >= self._until_s:"): _BEYOND,
    (
        "core.rrule",
        "1 to 2",
        "if timetable.next_after_s(start_s - 1) is None:",
    ): _BEFORE,
    ("core.rrule", "GtE to Gt", "if wall_s is None or wall_s >= END_S:"): _BEYOND,
    ("core.rrule", "GtE to Gt", "if day * DAY_S >= END_S:"): _BEYOND,
    ("core.rrule", "1 to 2", "after_s = max(after_s, self._start_s - 1)"): _BEFORE,
    ("core.rrule", "Sub to Add", "return min(wall_s, END_S - 1)"): _BEYOND,
    ("core.sequence", "0 to 1", "self._epoch = 0"): "the first term sets it",
    ("core.sequence", "0 to 1", "self._given = 0"): "the first term sets it",
    ("core.shares", "0 to 1", "self._credit = dict.fromkeys(LANES, 0)"): "only the differences of what lanes have saved up count",
    ("core.shares", "Lt to LtE", "return self._first[segment] < self._first[other]"): "no two messages have one id",
    (
        "core.wheel",
        "4096 to 4097",
        "MOVES_PER_ADVANCE = 4096",
    ): _MAGNITUDE,
    (
        "core.wheel",
        "BitAnd to BitOr",
        "return unit + (ahead & -ahead).bit_length() - 1",
    ): _LOWEST,
    (
        "core.wheel",
        "True to False",
        "return zip(ids, dues, strict=True)",
    ): "the two arrays of a slot are always of one length",
    (
        "core.wheel",
        "1 to 2",
        "moments = self._moments[:1] + [due_ms for due_ms, _ in self._opened[:1]]",
    ): "only the least of them counts, and it is the first",
    **{
        (
            "core.wheel",
            what,
            "if not self._opened and not self._moments and 0 < seconds.count(self._second) <= self._moves_left:",
        ): _SHORT_CUT
        for what in ("not left out", "Lt to LtE", "0 to 1")
    },
    (
        "core.wheel",
        "And to Or",
        "if self._opened and (self._moments or self._second in self._marks):",
    ): _SHORT_CUT,
    **{
        (
            "core.wheel",
            what,
            "while moments and moments[0] <= until_ms and self._drops_left > 0 and (room := limit - len(taken)) > 0:",
        ): _MAGNITUDE
        for what in ("Gt to GtE", "0 to 1")
    },
    (
        "core.wheel",
        "2 to 3",
        "sizes = [2 * longer // unit for unit, longer in pairwise(units[:-1])]",
    ): "no more than two turns of a ring are ever used",
    (
        "core.wheel",
        "1 to 2",
        "return [Ring(unit_ms=unit, size=size) for unit, size in zip(units[:-1], [*sizes, levels[-1] + 1], strict=True)]",
    ): "more room than the span is never used",
    (
        "core.wheel",
        "True to False",
        "return [Ring(unit_ms=unit, size=size) for unit, size in zip(units[:-1], [*sizes, levels[-1] + 1], strict=True)]",
    ): "there are always four rings",
    ("core.wheel", "0 to 1", "self._moves_left = self._drops_left = 0"): "each advance sets them before it uses them",
    ("core.wheel", "True to False", "for ahead, ring in zip((0, 1, 1, 1), self._rings, strict=True):"): "there are always four rings",
    ("core.zones", "62134000000 to 62134000001", "FIRST_S = -62_134_000_000"): "any second of that month would do",
    (
        "core.zones",
        "max to min",
        "span = span_at(name, max(wall_s - DAY_S, FIRST_S))",
    ): "it walks from the first span of all to the same one",
    ("core.zones", "Sub to Add", "before_s = _offset_s(where, start_s - 1)"): _NO_EDGE,
    ("core.zones", "1 to 2", "before_s = _offset_s(where, start_s - 1)"): _NO_EDGE,
    ("core.zones", "Sub to Add", "until_s = min(probe_s + _PROBE_S, end_s) - 1"): _NO_EDGE,
    ("core.zones", "1 to 2", "until_s = min(probe_s + _PROBE_S, end_s) - 1"): _NO_EDGE,
    (
        "core.zones",
        "1 to 2",
        "recent = [change_s + _offset_s(where, change_s - 1) for change_s in _changes(where, start_s - _PROBE_S, start_s)]",
    ): "two seconds before a change the offset is that of one second before",
    (
        "core.zones",
        "1 to 2",
        "changes.append(_bisect_change(where, max(probe_s - 1, start_s), until_s))",
    ): "no zone changes its offset in the second before one that is probed",
    ("core.zones", "3 to 4", "_PROBE_S = 3 * DAY_S"): "no span of the tz database is shorter than four days",
    (
        "leadership.elector",
        "Mult to FloorDiv",
        "if self.holder is not None and since_ms > 2 * VERDICT_LEASES * self.lease_ms:",
    ): "twice one lease is also two by one",
    ("leadership.watch", "0 to 1", "self._since_ms = 0"): "it is set at the first look",
}
