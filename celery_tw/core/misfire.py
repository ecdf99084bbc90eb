"""Misfire: what becomes of the slots that nobody fired in time.

``plan`` looks at one entry at one moment and decides. *mark* is the last slot already decided; all later slots are
open::

        mark            now - tolerance         now
    ─────┼──x────x────x────────┼─────o─────o─────┼─────o──────o─────▶
         │      missed         │       live      │     to come

A *live* slot is at most the tolerance late: it is simply fired, whatever the policy. A *missed* slot is older, and
the policy decides:

latest
    The newest due slot is fired in their stead: the first live one when there is one, else the last missed one. The
    others are recorded as skipped.
skip
    All are recorded as skipped.
catch_up
    The newest *limit* become a backlog, fired oldest first at *rate* a second; what is older is recorded as skipped.

Nothing is dropped unrecorded: each slot up to the plan's mark is the old mark's, fired, skipped, or in the backlog.
The plan never puts the mark on or past a live slot that it does not fire, so live slots are planned next, one at a
time, and never wait behind old ones.

Worked example: hourly, mark 02:00, now 05:30, tolerance 5 s. The slots 03:00, 04:00 and 05:00 are missed. ``latest``
fires 05:00 and records 03:00–04:00, two slots, ``misfire:latest``; mark becomes 05:00 and next 06:00.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from celery_tw.core.recurrence import Recurrence, count_between, last_between, newest_between
from celery_tw.errors import InvalidEntry

Policy = Literal["latest", "skip", "catch_up"]
POLICIES: tuple[str, ...] = get_args(Policy)

COUNT_LIMIT = 10_000
"""Skipped slots are counted exactly up to here."""


@dataclass(frozen=True, slots=True)
class Misfire:
    """The policy of an entry for its missed slots; *rate* (slots a second) and *limit* (slots) belong to catch_up."""

    policy: Policy
    rate: float | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise InvalidEntry(f"misfire takes one of {', '.join(POLICIES)}, not {self.policy!r}")
        if self.policy == "catch_up":
            self._refuse_bad_numbers()
        elif self.rate is not None or self.limit is not None:
            raise InvalidEntry(f"only misfire catch_up takes a rate and a limit, not {self.policy}")

    def _refuse_bad_numbers(self) -> None:
        if isinstance(self.rate, bool) or not isinstance(self.rate, int | float) or not 0 < self.rate < float("inf"):
            raise InvalidEntry(f"misfire catch_up takes a rate above 0 slots a second, not {self.rate!r}")
        if isinstance(self.limit, bool) or not isinstance(self.limit, int) or self.limit < 1:
            raise InvalidEntry(f"misfire catch_up takes a limit of at least 1 slot, not {self.limit!r}")

    @classmethod
    def latest(cls) -> "Misfire":
        """Fire the newest due slot, record the rest."""
        return cls("latest")

    @classmethod
    def skip(cls) -> "Misfire":
        """Record all missed slots, fire none."""
        return cls("skip")

    @classmethod
    def catch_up(cls, *, rate: float = 10, limit: int = 1000) -> "Misfire":
        """Fire the newest *limit* missed slots, oldest first, *rate* a second; record what is older."""
        return cls("catch_up", rate=rate, limit=limit)

    @classmethod
    def parse(cls, value: "str | Misfire") -> "Misfire":
        """Return the policy that *value* names; raise ``InvalidEntry`` when it names none."""
        if isinstance(value, Misfire):
            return value
        if value == "catch_up":
            return cls.catch_up()
        return cls(value)  # type: ignore[arg-type]  # the constructor checks it

    def to_spec(self) -> dict[str, Any]:
        """Return the policy as plain JSON, as ``from_spec`` reads it."""
        if self.policy == "catch_up":
            return {"policy": self.policy, "rate": self.rate, "limit": self.limit}
        return {"policy": self.policy}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> "Misfire":
        """Return the policy that ``to_spec`` wrote; raise ``InvalidEntry`` when it is none."""
        return cls(spec.get("policy"), rate=spec.get("rate"), limit=spec.get("limit"))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedRange:
    """Slots that will not be fired: the first, the last, how many (*at_least*: counting stopped there), and why."""

    from_ms: int
    to_ms: int
    count: int
    reason: str
    at_least: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MissedRange:
    """Slots still to be fired: the first, the last, the one whose turn it is, how many are left, how many a second."""

    from_ms: int
    to_ms: int
    next_ms: int
    left: int
    rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do with an entry.

    *fire_ms* is the slot to fire, at once or, when it is still to come, at its time. *mark_ms* is the mark when the
    plan is carried out, *next_ms* the slot after it. A plan with a skipped range or a backlog is to be carried out at
    once: its mark is never in the future.
    """

    fire_ms: int | None = None
    skipped: SkippedRange | None = None
    backlog: MissedRange | None = None
    mark_ms: int
    next_ms: int | None


def plan(recurrence: Recurrence, *, mark_ms: int, now_ms: int, tolerance_ms: int, misfire: Misfire) -> Plan:
    """Return what to do at *now_ms* with the slots of *recurrence* after *mark_ms*."""
    first_ms = recurrence.next_after(mark_ms)
    if first_ms is None:
        return Plan(mark_ms=mark_ms, next_ms=None)
    missed_until_ms = now_ms - tolerance_ms - 1
    if first_ms > missed_until_ms:
        return _fire(recurrence, first_ms)
    if misfire.policy == "latest":
        return _fire_latest(recurrence, first_ms, missed_until_ms, now_ms)
    last_ms = _last_missed(recurrence, first_ms, missed_until_ms)
    if misfire.policy == "skip":
        return _skip(recurrence, first_ms, last_ms)
    return _catch_up(recurrence, first_ms, last_ms, misfire)


def _fire(recurrence: Recurrence, slot_ms: int, skipped: SkippedRange | None = None) -> Plan:
    return Plan(fire_ms=slot_ms, skipped=skipped, mark_ms=slot_ms, next_ms=recurrence.next_after(slot_ms))


def _fire_latest(recurrence: Recurrence, first_ms: int, missed_until_ms: int, now_ms: int) -> Plan:
    newest_ms = recurrence.next_after(missed_until_ms)
    if newest_ms is None or newest_ms > now_ms:
        newest_ms = _last_missed(recurrence, first_ms, missed_until_ms)
    return _fire(recurrence, newest_ms, _skipped(recurrence, first_ms, newest_ms - 1, reason="misfire:latest"))


def _skip(recurrence: Recurrence, first_ms: int, last_ms: int) -> Plan:
    skipped = _skipped(recurrence, first_ms, last_ms, reason="misfire:skip")
    return Plan(skipped=skipped, mark_ms=last_ms, next_ms=recurrence.next_after(last_ms))


def _catch_up(recurrence: Recurrence, first_ms: int, last_ms: int, misfire: Misfire) -> Plan:
    assert misfire.rate is not None
    assert misfire.limit is not None
    kept = newest_between(recurrence, first_ms - 1, last_ms, limit=misfire.limit)
    return Plan(
        skipped=_skipped(recurrence, first_ms, kept[0] - 1, reason="misfire:limit"),
        backlog=MissedRange(from_ms=kept[0], to_ms=kept[-1], next_ms=kept[0], left=len(kept), rate=misfire.rate),
        mark_ms=last_ms,
        next_ms=recurrence.next_after(last_ms),
    )


def _last_missed(recurrence: Recurrence, first_ms: int, missed_until_ms: int) -> int:
    last_ms = last_between(recurrence, first_ms, missed_until_ms)
    return first_ms if last_ms is None else last_ms


def _skipped(recurrence: Recurrence, first_ms: int, until_ms: int, *, reason: str) -> SkippedRange | None:
    last_ms = last_between(recurrence, first_ms - 1, until_ms)
    if last_ms is None:
        return None
    count = count_between(recurrence, first_ms - 1, last_ms, limit=COUNT_LIMIT + 1)
    return SkippedRange(
        from_ms=first_ms,
        to_ms=last_ms,
        count=min(count, COUNT_LIMIT),
        reason=reason,
        at_least=count > COUNT_LIMIT,
    )
