"""Oracles: what must be true of every history, one function each. They are pure and name what is wrong; none is told how it came about.

====  =================  ==============================================================================================================
      rule               what is wrong
====  =================  ==============================================================================================================
O1    ``missed``         a slot of the window for which there is neither a message nor a recorded skip
      ``contradicted``   a slot that is recorded as skipped, and was fired
O2    ``claimed twice``  the store took a slot as decided more than once
O3    ``doubled``        a slot took effect more than once, or its copies are not copies: they have different mids
O4    ``late``           a slot was handed over later than its budget, in quiet times or after a fault
O5    ``early``          something happened for a slot before its time
O6    ``phantom``        something happened for an entry that does not exist or does not stand then, for a slot off its grid, or for none
O7    ``epoch``          the store accepted a claim of an older epoch after one of a newer
O8    ``stuck``          faults are over, and something still waits, is late, is set aside, or not exactly one leads
O9    ``unaccounted``    a task that was added is nowhere, or in two places at once
====  =================  ==============================================================================================================

A slot counts as handed over by any line but ``claimed`` and ``skipped``. The window is (from, until]: leave out of it what may still be on
its way when the ledger is read.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from celery_tw.integration.status import Status
from celery_tw.testing.ledger import Line, What
from celery_tw.testing.slots import Slots

NOT_HANDED_OVER = (What.CLAIMED, What.SKIPPED)


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that must not be, with the slot and the send concerned where there are such."""

    rule: str
    what: str
    entry: str | None = None
    slot_ms: int | None = None
    mid: str | None = None

    def __str__(self) -> str:
        return f"{self.rule}: {self.what}"


@dataclass(frozen=True, slots=True)
class Window:
    """The time (from, until] whose slots are judged."""

    from_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class Budget:
    """How late a slot may be: *quiet_ms*; but one in a fault's window may be handed over until *quiet_ms* after the window's end."""

    quiet_ms: int
    faults: tuple[Window, ...] = ()

    def latest_ms(self, slot_ms: int) -> int:
        """Return the moment by which the slot must be handed over."""
        ends_ms = [fault.until_ms for fault in self.faults if fault.from_ms <= slot_ms <= fault.until_ms]
        return max([slot_ms, *ends_ms]) + self.quiet_ms


@dataclass(frozen=True, slots=True)
class Rest:
    """How the system stands when all faults are over and it had its time to recover."""

    leaders: int = 1
    backlogs: int = 0
    late: int = 0
    outbox: int = 0
    set_aside: int = 0

    @classmethod
    def of(cls, status: Status) -> Self:
        """Return what `TimeWheel.status` tells of it."""
        return cls(
            leaders=int(status.leader is not None),
            backlogs=sum(status.backlogs.values()),
            late=status.late,
            outbox=status.claimed,
            set_aside=len(status.quarantined) + status.buried,
        )


@dataclass(frozen=True, slots=True)
class Account:
    """Names of one-time tasks: those *added*, and where the ones are that were not fired."""

    added: Collection[str]
    waiting: Collection[str] = ()
    cancelled: Collection[str] = ()
    buried: Collection[str] = ()


def missed(lines: Iterable[Line], slots: Iterable[Slots], window: Window) -> Iterator[Violation]:
    """O1: each slot of the window was handed over, or is recorded as skipped."""
    lines = list(lines)
    done = {(line.entry, line.slot_ms) for line in lines if line.what not in NOT_HANDED_OVER}
    skips = _skips(lines)
    for each in slots:
        for slot_ms in each.between(window.from_ms, window.until_ms):
            if (each.entry, slot_ms) not in done and not _is_skipped(skips, each.entry, slot_ms):
                yield Violation("missed", f"{each.entry} at {slot_ms} was neither fired nor recorded as skipped", each.entry, slot_ms)


def contradicted(lines: Iterable[Line]) -> Iterator[Violation]:
    """O1, the other way round: what is recorded as skipped was not fired."""
    lines = list(lines)
    skips = _skips(lines)
    for entry, slot_ms in dict.fromkeys((line.entry, line.slot_ms) for line in lines if line.what not in NOT_HANDED_OVER):
        if entry is not None and slot_ms is not None and _is_skipped(skips, entry, slot_ms):
            yield Violation("contradicted", f"{entry} at {slot_ms} is recorded as skipped, and was fired", entry, slot_ms)


def claimed_twice(lines: Iterable[Line]) -> Iterator[Violation]:
    """O2: the store takes each slot as decided once, under one epoch."""
    epochs: dict[tuple[str | None, int | None], list[int | None]] = defaultdict(list)
    for line in lines:
        if line.what is What.CLAIMED:
            epochs[line.entry, line.slot_ms].append(line.epoch)
    for (entry, slot_ms), under in epochs.items():
        if slot_ms is not None and len(under) > 1:
            yield Violation("claimed twice", f"{entry} at {slot_ms} was claimed under the epochs {under}", entry, slot_ms)


def doubled(lines: Iterable[Line], *, effect: What = What.STARTED, copies_run: bool = False) -> Iterator[Violation]:
    """O3: each slot takes effect once.

    *effect* is the line that counts: ``started`` for plain tasks; ``ended`` for guarded ones, which may begin again after a crash.
    *copies_run* allows for further runs of the same send, where neither the broker nor the task promises more; another mid never passes.
    """
    effects: dict[tuple[str | None, int | None], list[str | None]] = defaultdict(list)
    for line in lines:
        if line.what is effect and line.slot_ms is not None:
            effects[line.entry, line.slot_ms].append(line.mid)
    for (entry, slot_ms), mids in effects.items():
        others = sorted({str(mid) for mid in mids if mid != mids[0]})
        if others:
            yield Violation("doubled", f"{entry} at {slot_ms} was sent as {mids[0]} and as {', '.join(others)}", entry, slot_ms, others[0])
        elif len(mids) > 1 and not copies_run:
            yield Violation("doubled", f"{entry} at {slot_ms} took effect {len(mids)} times", entry, slot_ms, mids[0])


def late(lines: Iterable[Line], slots: Iterable[Slots], window: Window, budget: Budget) -> Iterator[Violation]:
    """O4: each slot of the window that was handed over, was so within its budget. (One that never was is `missed`.)"""
    first_ms = handed_over_ms(lines)
    for each in slots:
        for slot_ms in each.between(window.from_ms, window.until_ms):
            at_ms = first_ms.get((each.entry, slot_ms))
            if at_ms is not None and at_ms > budget.latest_ms(slot_ms):
                what = f"{each.entry} at {slot_ms} came {at_ms - slot_ms} ms late, {at_ms - budget.latest_ms(slot_ms)} ms beyond its budget"
                yield Violation("late", what, each.entry, slot_ms)


def early(lines: Iterable[Line], *, guard_ms: int = 0) -> Iterator[Violation]:
    """O5: nothing happens for a slot before its time, give or take *guard_ms* between the clocks of store and ledger."""
    for line in lines:
        if line.slot_ms is not None and line.what is not What.SKIPPED and line.at_ms < line.slot_ms - guard_ms:
            what = f"{line.entry} at {line.slot_ms} was {line.what} {line.slot_ms - line.at_ms} ms before its time"
            yield Violation("early", what, line.entry, line.slot_ms, line.mid)


def phantoms(lines: Iterable[Line], slots: Iterable[Slots]) -> Iterator[Violation]:
    """O6: whatever happens is for a slot that there is."""
    known = {each.entry: each for each in slots}
    wrong = dict.fromkeys((line.entry, line.slot_ms) for line in lines if line.what is not What.SKIPPED and not _is_known(line, known))
    for entry, slot_ms in wrong:
        why = "there is no such entry" if entry not in known else "it has no such slot"
        yield Violation("phantom", f"{entry} at {slot_ms} was fired, and {why}", entry, slot_ms)


def epochs(lines: Iterable[Line]) -> Iterator[Violation]:
    """O7: the epochs of accepted claims never go back. (The lines must be in the order of the store.)"""
    highest = 0
    for line in lines:
        if line.what is not What.CLAIMED or line.epoch is None:
            continue
        if line.epoch < highest:
            what = f"{line.entry} at {line.slot_ms} was claimed under epoch {line.epoch} after epoch {highest} had claimed"
            yield Violation("epoch", what, line.entry, line.slot_ms, line.mid)
        highest = max(highest, line.epoch)


def stuck(rest: Rest) -> Iterator[Violation]:
    """O8: when all is healed, one leads and nothing is left over."""
    if rest.leaders != 1:
        yield Violation("stuck", f"{rest.leaders} lead")
    left = {"slots wait in backlogs": rest.backlogs, "entries are late": rest.late, "messages wait in the outbox": rest.outbox}
    for what, count in {**left, "are set aside": rest.set_aside}.items():
        if count:
            yield Violation("stuck", f"{count} {what}")


def unaccounted(lines: Iterable[Line], account: Account) -> Iterator[Violation]:
    """O9: each task that was added was fired, skipped or cancelled, is buried, or still waits: one of these."""
    lines = list(lines)
    places: Mapping[str, Collection[str | None]] = {
        "fired": {line.entry for line in lines if line.what not in NOT_HANDED_OVER},
        "skipped": {line.entry for line in lines if line.what is What.SKIPPED},
        "waiting": set(account.waiting),
        "cancelled": set(account.cancelled),
        "buried": set(account.buried),
    }
    for name in account.added:
        found = [place for place, names in places.items() if name in names]
        if len(found) != 1:
            yield Violation("unaccounted", f"{name} was added and is {' and '.join(found) or 'nowhere'}", name)


def handed_over_ms(lines: Iterable[Line]) -> dict[tuple[str | None, int | None], int]:
    """Return when each slot was first handed over."""
    first_ms: dict[tuple[str | None, int | None], int] = {}
    for line in lines:
        if line.what not in NOT_HANDED_OVER:
            key = (line.entry, line.slot_ms)
            first_ms[key] = min(line.at_ms, first_ms.get(key, line.at_ms))
    return first_ms


def copies(lines: Iterable[Line], *, of: What = What.STARTED) -> int:
    """Return how many lines of that kind repeat a send that has one already: no violation by themselves, but worth telling."""
    counts = Counter(line.mid for line in lines if line.what is of and line.mid is not None)
    return counts.total() - len(counts)


def _skips(lines: Iterable[Line]) -> Mapping[str | None, Sequence[tuple[int, int]]]:
    ranges: dict[str | None, list[tuple[int, int]]] = defaultdict(list)
    for line in lines:
        if line.what is What.SKIPPED and line.slot_ms is not None:
            ranges[line.entry].append((line.slot_ms, line.slot_ms if line.until_ms is None else line.until_ms))
    return ranges


def _is_skipped(skips: Mapping[str | None, Sequence[tuple[int, int]]], entry: str, slot_ms: int) -> bool:
    return any(first_ms <= slot_ms <= last_ms for first_ms, last_ms in skips.get(entry, ()))


def _is_known(line: Line, known: Mapping[str, Slots]) -> bool:
    slots = known.get(line.entry or "")
    return slots is not None and line.slot_ms is not None and slots.has(line.slot_ms)
