"""Backlogs: fire past slots, oldest first, at their rate, when nothing live waits.

A backlog is a range of one entry's slots, opened by a missed outage (generation 0, the slots' own fire ids) or by hand (``backfill``, a
generation of its own, so that the messages are new ones). Two rates bound it: its own, and ``tw_catch_up_rate`` for all backlogs of one
queue together, so that the past never floods a queue.

A backlog is of the slots that the schedule had when it was opened. Once that has changed, it is closed, and what was left is on record.

The slots of an entry that may not overlap go out one at a time, each when nothing of the ones before is left. So does the slot that waits
for that (``buffer_one``): it is a backlog of one.
"""

import logging
from collections.abc import Callable

from celery_tw.core.command import Command, Fire
from celery_tw.core.identity import FireIds
from celery_tw.core.misfire import SkippedRange
from celery_tw.core.recurrence import count_between, last_between, slots_between
from celery_tw.errors import CeleryTWError, MalformedRecord
from celery_tw.events import entry_quarantined
from celery_tw.scheduler.entries import Entries, Known
from celery_tw.scheduler.gauges import Gauges
from celery_tw.stores.redis.dispatching import Backlog, Dispatching
from celery_tw.stores.redis.open_fires import OpenFires

logger = logging.getLogger(__name__)

SLOTS_A_CALL = 50
TURNS_A_SECOND = 10
UNABLE_WAIT_MS = 5000
OPEN_WAIT_MS = 2000
"""How soon to look again whether the fires before have ended; the end of the last one says so itself, unless its process was lost."""


class Allowance:
    """A token bucket per queue: *rate* slots a second, at most a second's worth saved up."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._levels: dict[bytes, tuple[float, int]] = {}

    def left(self, queue: bytes, now_ms: int) -> int:
        """Return how many slots may go to *queue* now."""
        level, since_ms = self._levels.get(queue, (self.rate, now_ms))
        level = min(max(self.rate, 1.0), level + self.rate * max(0, now_ms - since_ms) / 1000)
        self._levels[queue] = (level, now_ms)
        return int(level)

    def spend(self, queue: bytes, count: int) -> None:
        """Take *count* slots off *queue*'s allowance."""
        level, since_ms = self._levels.get(queue, (self.rate, 0))
        self._levels[queue] = (level - count, since_ms)


class Backlogs:
    """Drains open backlogs under a term's epoch."""

    def __init__(
        self,
        *,
        dispatching: Dispatching,
        entries: Entries,
        open_fires: OpenFires,
        fire_ids: FireIds,
        gauges: Gauges,
        catch_up_rate: float,
    ) -> None:
        self.dispatching = dispatching
        self.open_fires = open_fires
        self.entries = entries
        self.fire_ids = fire_ids
        self.gauges = gauges
        self.allowance = Allowance(catch_up_rate)
        self._fitting: dict[str, int] = {}

    def drain(self, epoch: int, members: list[bytes], now_ms: int, *, go_on: Callable[[], bool]) -> None:
        """Give each backlog of *members* its turn, until *go_on* says that something live waits."""
        for member in members:
            if not go_on():
                return
            self._take_turn(epoch, member.decode(errors="replace"), now_ms)

    def _take_turn(self, epoch: int, member: str, now_ms: int) -> None:
        try:
            backlog = self.dispatching.read_backlog(member)
        except MalformedRecord as error:
            backlog = None
            logger.error("backlog %s is in quarantine: %s", member, error)
            entry_quarantined.send(sender=self, entry_id=member, reason=str(error))
        if backlog is None:
            self.dispatching.quarantine(epoch, member, "the backlog is gone or cannot be read", backlog=True)
            return
        self.entries.load([backlog.entry_id])
        known = self.entries.get(backlog.entry_id)
        if known is None:
            self._wait(epoch, backlog, now_ms + UNABLE_WAIT_MS)
        elif known.definition.counted and self._is_open(known):
            self._wait(epoch, backlog, now_ms + OPEN_WAIT_MS)
        else:
            self._fire_slots(epoch, backlog, known, now_ms)

    def _is_open(self, known: Known) -> bool:
        return bool(self.open_fires.look([(known.entry_id, known.definition.name)])[known.entry_id].tasks)

    def _wait(self, epoch: int, backlog: Backlog, again_ms: int) -> None:
        self.dispatching.drain(epoch, backlog, slots_ms=[], commands=[], next_ms=backlog.next_ms, left=backlog.left, again_ms=again_ms)

    def _fire_slots(self, epoch: int, backlog: Backlog, known: Known, now_ms: int) -> None:
        if not self._fits(backlog, known):
            self._close(epoch, backlog, known, now_ms)
            return
        rate = backlog.rate or self.allowance.rate
        wanted = 1 if known.definition.counted else min(backlog.left, SLOTS_A_CALL, max(1, int(rate / TURNS_A_SECOND)))
        try:
            queue = self._render(backlog, known, backlog.next_ms)[0].key
            slots_ms = self._slots(backlog, known, min(wanted, self.allowance.left(queue, now_ms)))
            commands = [command for slot_ms in slots_ms for command in self._render(backlog, known, slot_ms)]
        except CeleryTWError as error:
            logger.error("the backlog of %s waits: %s", known.definition.name, error)
            self._wait(epoch, backlog, now_ms + UNABLE_WAIT_MS)
            return
        again_ms = now_ms + max(1000 // TURNS_A_SECOND, int(1000 * len(slots_ms) / rate))
        left = backlog.left - len(slots_ms)
        following = None if left == 0 else known.recurrence.next_after(slots_ms[-1]) if slots_ms else backlog.next_ms
        status = self.dispatching.drain(
            epoch,
            backlog,
            slots_ms=slots_ms,
            commands=commands,
            next_ms=following,
            left=left,
            again_ms=again_ms,
            version=known.version,
            delivery=known.definition.delivery,
        )
        if status == "fired":
            self.allowance.spend(queue, len(slots_ms))
            self.gauges.fired += len(slots_ms)
            self.entries.forget(backlog.entry_id)
            if following is None:
                self._fitting.pop(backlog.member, None)
        elif status == "moved":
            self.entries.forget(backlog.entry_id)
        elif status.startswith("refused"):
            logger.error("the backlog of %s waits: %s", known.definition.name, status)

    def _fits(self, backlog: Backlog, known: Known) -> bool:
        """Return whether what is left of a backlog are slots of the entry as it is now: counted once for each version of the entry."""
        if self._fitting.get(backlog.member) != known.version:
            first_ms, before_ms, last_ms = known.recurrence.next_after(backlog.next_ms - 1), backlog.next_ms - 1, backlog.to_ms
            count = count_between(known.recurrence, before_ms, last_ms, limit=backlog.left + 1)
            limited = known.definition.max_runs is not None and count > backlog.left
            if first_ms != backlog.next_ms or (count != backlog.left and not limited):
                return False
            if last_between(known.recurrence, before_ms, last_ms) != last_ms:
                return False
            self._fitting[backlog.member] = known.version
        return True

    def _close(self, epoch: int, backlog: Backlog, known: Known, now_ms: int) -> None:
        """End a backlog whose slots the entry's schedule does not have any more, and put them on record."""
        logger.warning("the backlog of %s ends with %d slot(s) left: its schedule has changed", known.definition.name, backlog.left)
        rest = SkippedRange(from_ms=backlog.next_ms, to_ms=backlog.to_ms, count=backlog.left, reason="schedule changed")
        self.dispatching.drain(
            epoch, backlog, slots_ms=[], commands=[], next_ms=None, left=0, again_ms=now_ms, version=known.version, skipped=rest
        )

    def _slots(self, backlog: Backlog, known: Known, count: int) -> list[int]:
        return slots_between(known.recurrence, backlog.next_ms - 1, backlog.to_ms, limit=count) if count > 0 else []

    def _render(self, backlog: Backlog, known: Known, slot_ms: int) -> list[Command]:
        fire_id = self.fire_ids.fire_id(known.entry_id, slot_ms, backlog.generation)
        return known.commands(Fire(fire_id, slot_ms, known.definition.name, counted=known.definition.counted))
