"""Recurring entries: batches decided here, in Python, and carried out by FIRE in one script.

Most slots are decided and rendered before they are due, when the entry is taken in hand: then only the call is left to do in time. Such a
decision holds for as long as a later one would be the same (`Ready.serves`).
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from celery_tw.core.command import Command, Fire
from celery_tw.core.identity import FireIds
from celery_tw.core.overlap import NOTHING, Standing
from celery_tw.errors import CeleryTWError, StaleEpoch, StoreRefused, StoreUnavailable
from celery_tw.events import slots_skipped
from celery_tw.scheduler.decision import Decision, decide, first_due_ms
from celery_tw.scheduler.entries import Entries, Known, Ready
from celery_tw.scheduler.gauges import Gauges
from celery_tw.scheduler.refusals import Refusals
from celery_tw.scheduler.upcoming import EARLY_WAIT_MS, Upcoming
from celery_tw.stores.redis.dispatching import Dispatching, SlotWrite
from celery_tw.stores.redis.line import Call
from celery_tw.stores.redis.open_fires import OpenFires
from celery_tw.stores.redis.timetable import Timetable

logger = logging.getLogger(__name__)

READY_KEPT = 50_000
"""With more entries than this in hand, messages are made when they are due: a message takes one or two kilobytes."""

LARGEST_CALL = 4 * 1024 * 1024
"""How many bytes of messages one call carries, unless a single slot has more: it has to be answered within the client's time-out."""

Chosen = tuple[Known, Decision, SlotWrite]


@dataclass(frozen=True, slots=True)
class RecurringFlight:
    """A batch of pairs of due ms and id, and for what was decided of it the calls that carry it out."""

    batch: Sequence[tuple[int, int]]
    firings: Sequence[tuple[Sequence[Chosen], Call]]


class RecurringEntries:
    """Fires recurring entries; *hold* keeps one until its next due time, *supersede* asks tasks of an entry's earlier fires to stop.

    *on_laned* is told of a queue in whose lanes a message waits now.
    """

    def __init__(
        self,
        *,
        dispatching: Dispatching,
        timetable: Timetable,
        entries: Entries,
        upcoming: Upcoming,
        fire_ids: FireIds,
        refusals: Refusals,
        gauges: Gauges,
        hold: Callable[[int, int], None],
        open_fires: OpenFires,
        supersede: Callable[[str, Sequence[str]], None],
        on_laned: Callable[[str], None] = lambda queue: None,
    ) -> None:
        self.dispatching = dispatching
        self.timetable = timetable
        self.entries = entries
        self.upcoming = upcoming
        self.fire_ids = fire_ids
        self.refusals = refusals
        self.gauges = gauges
        self.hold = hold
        self.open_fires = open_fires
        self.supersede = supersede
        self.on_laned = on_laned
        self.epoch = 0
        self._standing: dict[int, Standing] = {}

    def prepare(self, entry_ids: Iterable[int]) -> None:
        """Read *entry_ids*, and decide ahead what each does when it is due, as far as that can be known."""
        entry_ids = list(entry_ids)
        self.entries.load(entry_ids)
        for entry_id in entry_ids:
            known = self.entries.get(entry_id)
            if known is not None and known.due_ms is not None and known.can_be_decided_ahead and len(self.upcoming) < READY_KEPT:
                known.ready = self._ready(known, known.due_ms)

    def _ready(self, known: Known, due_ms: int) -> Ready | None:
        """Return what to do when *known* is due, unless that depends on the moment."""
        try:
            decision = self._decision(known, due_ms)
            if decision.fire_ms is None or decision.skipped is not None or decision.backlog is not None:
                return None
            write = self._write(known, decision, self._commands(known, decision))
        except CeleryTWError:  # it will be met again, and reported, when the entry is due
            return None
        until_ms = decision.fire_ms + known.definition.tolerance_ms + known.definition.jitter_ms
        return Ready(due_ms, until_ms, decision, write)

    def send(self, batch: Sequence[tuple[int, int]], now_ms: int) -> RecurringFlight:
        """Decide each entry of *batch*, pairs of due ms and id, and hand the decisions to Redis."""
        self.entries.load(entry_id for _, entry_id in batch)
        self._standing = self._look(entry_id for _, entry_id in batch)
        chosen = [item for item in (self._decide(due_ms, entry_id, now_ms) for due_ms, entry_id in batch) if item]
        return RecurringFlight(batch, [(portion, self._fire(portion)) for portion in _portions(chosen)])

    def settle(self, flight: RecurringFlight) -> None:
        """Act on the answers."""
        for chosen, firing in flight.firings:
            self._settle_all(chosen, firing)

    def _fire(self, chosen: Sequence[Chosen]) -> Call:
        return self.dispatching.fire(self.epoch, [write for _, _, write in chosen])

    def _settle_all(self, chosen: Sequence[Chosen], firing: Call) -> None:
        """Act on the answers; what Redis refuses as a whole is halved until it is known which entry that is about."""
        try:
            now_ms, statuses = firing.statuses()
        except StoreRefused as error:
            if len(chosen) > 1:
                middle = len(chosen) // 2
                for half in (chosen[:middle], chosen[middle:]):
                    self._settle_all(half, self._fire(half))
                return
            now_ms, statuses = self.gauges.now_ms, [f"refused {error}"]
        for (known, decision, write), status in zip(chosen, statuses, strict=True):
            self._settle(known, decision, write, status, now_ms)

    def _decide(self, due_ms: int, entry_id: int, now_ms: int) -> Chosen | None:
        known = self.entries.get(entry_id)
        if known is None or known.due_ms is None:
            return None
        if known.due_ms > max(due_ms, now_ms):
            self.upcoming.add(entry_id, known.due_ms)
            return None
        ready, known.ready = known.ready, None
        if ready is not None and ready.serves(known.due_ms, now_ms):
            return known, ready.decision, ready.write
        decision = self._decision(known, now_ms)
        if decision.mark_ms > now_ms or decision.mark_ms <= known.mark_ms:
            self._mend_due(known)
            return None
        try:
            commands = self._commands(known, decision)
        except (StoreUnavailable, StaleEpoch):
            raise
        except CeleryTWError as error:
            self._keep_back(known, known.due_ms, decision.mark_ms, str(error))
            return None
        return known, decision, self._write(known, decision, commands)

    def _look(self, entry_ids: Iterable[int]) -> dict[int, Standing]:
        """Return what is left of the fires of those entries that may not overlap; it holds as well as the moment at which it was seen."""
        counted = [known for known in map(self.entries.get, entry_ids) if known is not None and known.definition.counted]
        return self.open_fires.look([(known.entry_id, known.definition.name) for known in counted]) if counted else {}

    def _decision(self, known: Known, now_ms: int) -> Decision:
        return decide(
            known.definition,
            known.recurrence,
            entry_id=known.entry_id,
            mark_ms=known.mark_ms,
            count=known.count,
            now_ms=now_ms,
            before=self._standing.get(known.entry_id, NOTHING),
        )

    def _commands(self, known: Known, decision: Decision) -> list[Command]:
        if decision.fire_ms is None:
            return []
        fire_id = self.fire_ids.fire_id(known.entry_id, decision.fire_ms)
        return known.commands(Fire(fire_id, decision.fire_ms, known.definition.name, counted=known.definition.counted))

    def _write(self, known: Known, decision: Decision, commands: list[Command]) -> SlotWrite:
        assert known.due_ms is not None
        return SlotWrite(
            entry_id=known.entry_id,
            due_ms=known.due_ms,
            version=known.version,
            slot_ms=decision.mark_ms,
            next_due_ms=decision.next_due_ms,
            commands=commands,
            skipped=decision.skipped,
            backlog=decision.backlog,
            drop_name=known.definition.name if decision.ends else "",
            delivery=known.definition.delivery,
            waits=decision.waits,
        )

    def _settle(self, known: Known, decision: Decision, write: SlotWrite, status: str, now_ms: int) -> None:
        if status == "fired":
            self._advance(known, decision, write, now_ms)
        elif status == "early":
            self.upcoming.add(known.entry_id, write.due_ms, wake_ms=now_ms + EARLY_WAIT_MS)
        elif status.startswith("refused"):
            self.dispatching.entering.discard_ids(status)
            self._keep_back(known, write.due_ms, write.slot_ms, status.partition(" ")[2])
        else:
            self._follow(known.entry_id)

    def _advance(self, known: Known, decision: Decision, write: SlotWrite, now_ms: int) -> None:
        known.mark_ms, known.due_ms = decision.mark_ms, decision.next_due_ms
        if decision.fire_ms is not None:
            known.count += 1
            self.gauges.count_fire(now_ms - write.due_ms)
        if decision.backlog is not None:
            known.count += decision.backlog.left
        if decision.skipped is not None:
            self._report_skip(known, decision)
        for queue in {command.queue for command in write.commands if command.lane}:
            self.on_laned(queue)
        if decision.supersedes:
            self.supersede(known.definition.name, decision.supersedes)
        if known.due_ms is None:
            self.entries.forget(known.entry_id)
        else:
            self.hold(known.entry_id, known.due_ms)

    def _report_skip(self, known: Known, decision: Decision) -> None:
        skipped = decision.skipped
        assert skipped is not None
        self.gauges.skipped += skipped.count
        logger.warning("entry %s: %d slot(s) not fired (%s)", known.definition.name, skipped.count, skipped.reason)
        slots_skipped.send(
            sender=self,
            name=known.definition.name,
            entry_id=known.entry_id,
            from_ms=skipped.from_ms,
            to_ms=skipped.to_ms,
            count=skipped.count,
            reason=skipped.reason,
        )

    def _follow(self, entry_id: int) -> None:
        """Read an entry again that was not as known, and hold it for its new due time."""
        self.entries.forget(entry_id)
        self.entries.load([entry_id])
        known = self.entries.get(entry_id)
        if known is not None and known.due_ms is not None:
            self.hold(entry_id, known.due_ms)

    def _mend_due(self, known: Known) -> None:
        """Set a due time right that does not belong to the entry's next slot (other zone data, another version)."""
        due_ms = first_due_ms(known.definition, known.recurrence, entry_id=known.entry_id, mark_ms=known.mark_ms)
        logger.warning("entry %s was due at %s, its next slot is at %s: mended", known.definition.name, known.due_ms, due_ms)
        self.timetable.writing.change(
            known.entry_id, version=known.version, mark_ms=known.mark_ms, due_ms=due_ms, fields=[("mark", str(known.mark_ms))]
        )
        self.entries.forget(known.entry_id)

    def _keep_back(self, known: Known, due_ms: int, slot_ms: int, reason: str) -> None:
        self.refusals.keep_back(known.definition.name, entry_id=known.entry_id, due_ms=due_ms, slot_ms=slot_ms, reason=reason)


def _portions(chosen: Sequence[Chosen]) -> Iterator[list[Chosen]]:
    """Yield *chosen* in portions of at most `LARGEST_CALL` bytes."""
    portion: list[Chosen] = []
    size = 0
    for item in chosen:
        more = sum(len(command.payload) for command in item[2].commands)
        if portion and size + more > LARGEST_CALL:
            yield portion
            portion, size = [], 0
        portion.append(item)
        size += more
    if portion:
        yield portion
