"""Dispatch: fire what is due.

A batch of recurring entries is decided here, in Python, and carried out by FIRE in one script; a batch of one-time tasks brings its own
messages and is carried out by FIRE ONCE without leaving Redis. Either way the script compares and answers for each entry apart:

========  =====================================================================================================
fired     the slot is decided; the entry waits for its next one
moved     somebody changed the entry meanwhile, or a repeated call had been carried out: it is read again
early     Redis time says not yet (the estimate ran ahead by a millisecond or two): it waits that long
refused   the queue key cannot take a message: it waits `REFUSED_WAIT_MS`, is counted and reported, and harms no other
========  =====================================================================================================

When no answer comes, the batch goes back in hand: what was carried out after all will answer *moved*.
"""

import logging
from collections.abc import Callable, Sequence

from celery_tw.core.command import Command, Fire
from celery_tw.core.identity import FireIds
from celery_tw.errors import CeleryTWError, MalformedRecord, StaleEpoch, StoreRefused, StoreUnavailable
from celery_tw.events import entry_quarantined, fire_refused, slots_skipped
from celery_tw.scheduler.decision import Decision, decide, first_due_ms
from celery_tw.scheduler.entries import Entries, Known
from celery_tw.scheduler.gauges import Gauges
from celery_tw.scheduler.horizon import Horizon
from celery_tw.scheduler.ports import Workshop
from celery_tw.scheduler.upcoming import LOOK_AHEAD_MS, Upcoming
from celery_tw.stores.redis.dispatching import Dispatching, SlotWrite
from celery_tw.stores.redis.keys import is_one_time
from celery_tw.stores.redis.timetable import Stored, Timetable

logger = logging.getLogger(__name__)

BATCH = 250
REFUSED_WAIT_MS = 5000
EARLY_WAIT_MS = 1


class Dispatch:
    """Fires batches taken from *upcoming* under the present term's *epoch*."""

    def __init__(
        self,
        *,
        dispatching: Dispatching,
        timetable: Timetable,
        entries: Entries,
        horizon: Horizon,
        upcoming: Upcoming,
        workshop: Workshop,
        fire_ids: FireIds,
        gauges: Gauges,
        on_newer: Callable[[str], None],
    ) -> None:
        self.dispatching = dispatching
        self.timetable = timetable
        self.entries = entries
        self.horizon = horizon
        self.upcoming = upcoming
        self.workshop = workshop
        self.fire_ids = fire_ids
        self.gauges = gauges
        self.on_newer = on_newer
        self.queue_keys: set[bytes] = set()
        self.epoch = 0

    def fire_due(self, now_ms: int) -> int:
        """Fire one batch of what is due at *now_ms*; return how many entries it held."""
        batch = self.upcoming.take(now_ms, limit=BATCH)
        try:
            self._fire_one_time([pair for pair in batch if is_one_time(pair[1])])
            self._fire_recurring([pair for pair in batch if not is_one_time(pair[1])], now_ms)
        except Exception:
            self._take_back(batch)
            raise
        return len(batch)

    def _take_back(self, batch: Sequence[tuple[int, int]]) -> None:
        for due_ms, entry_id in batch:
            self.entries.forget(entry_id)
            if entry_id not in self.upcoming:
                self.upcoming.add(entry_id, due_ms)

    # One-time tasks

    def _fire_one_time(self, batch: Sequence[tuple[int, int]]) -> None:
        while batch:
            now_ms, statuses = self._ask(batch)
            batch = [pair for pair, status in zip(batch, statuses, strict=True) if self._settle_one_time(pair, status, now_ms)]

    def _ask(self, batch: Sequence[tuple[int, int]]) -> tuple[int, list[str]]:
        """Return Redis time and a status for each task; what Redis refuses as a whole is halved until it is known whom that is about."""
        fingerprint, queue_keys = self.workshop.broker_fingerprint(), tuple(self.queue_keys)
        try:
            return self.dispatching.fire_once(self.epoch, batch, fingerprint=fingerprint, queue_keys=queue_keys)
        except StoreRefused as error:
            if len(batch) == 1:
                return self.gauges.now_ms, [f"refused {error}"]
        middle = len(batch) // 2
        _, first = self._ask(batch[:middle])
        now_ms, rest = self._ask(batch[middle:])
        return now_ms, first + rest

    def _settle_one_time(self, pair: tuple[int, int], status: str, now_ms: int) -> bool:
        """Act on one answer; return whether the task is to be tried again at once."""
        due_ms, entry_id = pair
        verb, _, detail = status.partition(" ")
        if verb == "fired":
            self.gauges.count_fire(now_ms - due_ms)
        elif verb == "late":
            self.gauges.skipped += 1
            slots_skipped.send(sender=self, name="", entry_id=entry_id, from_ms=due_ms, to_ms=due_ms, count=1, reason="misfire:skip")
        elif verb == "early":
            self.upcoming.add(entry_id, due_ms, wake_ms=now_ms + EARLY_WAIT_MS)
        elif verb == "undeclared":
            self.queue_keys.add(detail.encode())
            return True
        elif verb == "foreign":
            return self._render_again(entry_id, due_ms)
        elif verb == "malformed":
            self.quarantine(entry_id, "the record of a one-time task cannot be read")
        elif verb == "newer":
            self.on_newer(f"one-time task {entry_id} was written by a newer version of celery-tw")
            self.upcoming.add(entry_id, due_ms, wake_ms=now_ms + REFUSED_WAIT_MS)
        elif verb == "moved":
            self._follow_one_time(entry_id)
        elif verb == "refused":
            self._refused(f"one-time task {entry_id}", entry_id, due_ms, due_ms, detail)
        return False

    def _follow_one_time(self, entry_id: int) -> None:
        _, due_ms, held = self.timetable.read_one_time(entry_id)
        if due_ms is not None and not held:
            self._hold(entry_id, due_ms)

    def _render_again(self, entry_id: int, due_ms: int) -> bool:
        """Render a task again whose message was made for another broker configuration; return whether to try again at once."""
        record, _, _ = self.timetable.read_one_time(entry_id)
        if record is None:
            return False
        try:
            fresh = self.workshop.render_again(record)
        except (StoreUnavailable, StaleEpoch):
            raise
        except MalformedRecord as error:
            self.quarantine(entry_id, str(error))
        except Exception as error:  # whatever kombu may raise over a strange envelope: it concerns this task alone
            self._refused(f"one-time task {entry_id}", entry_id, due_ms, due_ms, f"{type(error).__name__}: {error}")
        else:
            self.dispatching.rerender(self.epoch, entry_id, old=record, new=fresh)
            return True
        return False

    # Recurring entries

    def _fire_recurring(self, pairs: Sequence[tuple[int, int]], now_ms: int) -> None:
        if not pairs:
            return
        self.entries.load(entry_id for _, entry_id in pairs)
        chosen = [item for item in (self._decide(due_ms, entry_id, now_ms) for due_ms, entry_id in pairs) if item]
        if not chosen:
            return
        self._carry_out(chosen)

    def _carry_out(self, chosen: Sequence[tuple[Known, Decision, SlotWrite]]) -> None:
        """Fire what was decided; what Redis refuses as a whole is halved until it is known which entry that is about."""
        try:
            now_ms, statuses = self.dispatching.fire(self.epoch, [write for _, _, write in chosen])
        except StoreRefused as error:
            if len(chosen) > 1:
                middle = len(chosen) // 2
                self._carry_out(chosen[:middle])
                self._carry_out(chosen[middle:])
                return
            now_ms, statuses = self.gauges.now_ms, [f"refused {error}"]
        for (known, decision, write), status in zip(chosen, statuses, strict=True):
            self._settle(known, decision, write, status, now_ms)

    def _decide(self, due_ms: int, entry_id: int, now_ms: int) -> tuple[Known, Decision, SlotWrite] | None:
        known = self.entries.get(entry_id)
        if known is None or known.due_ms is None:
            return None
        if known.due_ms > max(due_ms, now_ms):
            self.upcoming.add(entry_id, known.due_ms)
            return None
        decision = decide(
            known.definition,
            known.recurrence,
            entry_id=entry_id,
            mark_ms=known.mark_ms,
            count=known.count,
            now_ms=now_ms,
        )
        if decision.mark_ms > now_ms or decision.mark_ms <= known.mark_ms:
            self._mend_due(known)
            return None
        try:
            commands = self._commands(known, decision)
        except (StoreUnavailable, StaleEpoch):
            raise
        except CeleryTWError as error:
            self._refused(known.definition.name, entry_id, known.due_ms, decision.mark_ms, str(error))
            return None
        return known, decision, self._write(known, decision, commands)

    def _commands(self, known: Known, decision: Decision) -> list[Command]:
        if decision.fire_ms is None:
            return []
        fire_id = self.fire_ids.fire_id(known.entry_id, decision.fire_ms)
        return known.rendering.commands(Fire(fire_id, decision.fire_ms, known.definition.name))

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
        )

    def _settle(self, known: Known, decision: Decision, write: SlotWrite, status: str, now_ms: int) -> None:
        verb, _, detail = status.partition(" ")
        if verb == "fired":
            self._advance(known, decision, write, now_ms)
        elif verb == "early":
            self.upcoming.add(known.entry_id, write.due_ms, wake_ms=now_ms + EARLY_WAIT_MS)
        elif verb == "refused":
            self._refused(known.definition.name, known.entry_id, write.due_ms, write.slot_ms, detail)
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
        if known.due_ms is None:
            self.entries.forget(known.entry_id)
        else:
            self._hold(known.entry_id, known.due_ms)

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
            self._hold(entry_id, known.due_ms)

    def _hold(self, entry_id: int, due_ms: int) -> None:
        """Keep an entry in hand when it is due soon, in the wheel when later."""
        if due_ms <= self.gauges.now_ms + LOOK_AHEAD_MS:
            self.upcoming.add(entry_id, due_ms)
        else:
            self.horizon.hear(entry_id, due_ms)

    def _mend_due(self, known: Known) -> None:
        """Set a due time right that does not belong to the entry's next slot (other zone data, another version)."""
        due_ms = first_due_ms(known.definition, known.recurrence, entry_id=known.entry_id, mark_ms=known.mark_ms)
        logger.warning("entry %s was due at %s, its next slot is at %s: mended", known.definition.name, known.due_ms, due_ms)
        self.timetable.change(
            known.entry_id, version=known.version, mark_ms=known.mark_ms, due_ms=due_ms, fields=[("mark", str(known.mark_ms))]
        )
        self.entries.forget(known.entry_id)

    # What goes wrong

    def _refused(self, name: str, entry_id: int, due_ms: int, slot_ms: int, reason: str) -> None:
        """Keep an entry back that cannot be fired now; its slot stays undecided."""
        self.gauges.refused += 1
        if entry_id not in self.upcoming:
            self.upcoming.add(entry_id, due_ms, wake_ms=max(due_ms, self.gauges.now_ms) + REFUSED_WAIT_MS)
        logger.error("%s was not fired, and is tried again in %d s: %s", name, REFUSED_WAIT_MS // 1000, reason)
        fire_refused.send(sender=self, name=name, entry_id=entry_id, slot_ms=slot_ms, reason=reason)

    def unable(self, stored: Stored, name: str, reason: str) -> None:
        """Keep an entry back that this process cannot fire: its code lacks what the entry needs."""
        due_ms = stored.due_ms or self.gauges.now_ms
        self._refused(name, stored.entry_id, due_ms, stored.mark_ms, reason)

    def quarantine(self, entry_id: int, reason: str) -> None:
        """Set an entry aside that can never be fired as it is stored."""
        self.quarantine_member(str(entry_id).encode(), reason)

    def quarantine_member(self, member: bytes, reason: str = "the timetable holds a member that is no entry id") -> None:
        """Set whatever the timetable holds under *member* aside."""
        text = member.decode(errors="backslashreplace")
        self.dispatching.quarantine(self.epoch, member, reason)
        logger.error("entry %s is in quarantine: %s", text, reason)
        entry_quarantined.send(sender=self, entry_id=text, reason=reason)
