"""Accepted: mutants that change nothing anybody can see, each with the reason.

They are told by module, change and text of the line, so that a changed line asks anew.
"""

_CACHE = "the place last visited is a pure cache; whatever it holds at first is replaced, or right"
_FAR = "how far is looked for what comes much sooner"
_NO_EDGE = "no zone of the tz database changes its offset where a block begins"
_SAME = "the other branch comes to the same"

ACCEPTED: dict[tuple[str, str, str], str] = {
    ("core.bounds", "GtE to Gt", "if self.end_ms is not None and after_ms >= self.end_ms:"): _SAME,
    ("core.cron", "48 to 49", "SEARCH_S = 48 * 366 * DAY_S"): _FAR,
    ("core.cron", "366 to 367", "SEARCH_S = 48 * 366 * DAY_S"): _FAR,
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
    ("core.day_times", "1 to 2", "return -1"): "callers ask whether it is less than 0",
    (
        "core.recurrence",
        "1 to 2",
        "slots = slots_between(recurrence, start_ms, until_ms, limit=wanted + 1)",
    ): "one more is asked for, to the same end",
    ("core.lane", "1 to 2", "near = get_close_matches(str(value).lower(), LANES, n=1)"): "only the first is named",
    ("core.retry", "64 to 65", "MOST_DOUBLINGS = 64"): "each delay is at its cap by then",
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
    ("leadership.watch", "0 to 1", "self._since_ms = 0"): "it is set at the first look",
}
