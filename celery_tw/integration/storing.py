"""Storing: carries drafts into the timetable, a chunk at a time.

Each chunk is read, decided (``core/upsert.py``) and written by one script. Writes of recurring entries compare the version that was read;
what lost a race is read and decided again. A one-time task whose message is a single one for one queue is stored with that message, ready
to go; any other (a canvas, one with ``expires``) is stored as a recurring entry with one slot and rendered when it is due.
"""

import hashlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from celery_tw.core.bounds import Bounded
from celery_tw.core.command import Fire
from celery_tw.core.definition import Definition
from celery_tw.core.identity import FireIds
from celery_tw.core.recurrence import Recurrence
from celery_tw.core.upsert import Standing, keep_anchor, upsert
from celery_tw.errors import CeleryTWError, InvalidEntry, InvalidSchedule, MalformedRecord, StoreUnavailable
from celery_tw.integration.drafting import Draft
from celery_tw.integration.schedules import recurrence_of
from celery_tw.scheduler.decision import first_due_ms
from celery_tw.stores.redis.codec import OneTime, decode_definition, encode_definition, unpack_one_time
from celery_tw.stores.redis.keys import is_one_time
from celery_tw.stores.redis.timetable import OneTimeWrite, RecurringWrite, Stored, Timetable

logger = logging.getLogger(__name__)

TRIES = 10
RENDERED_LATE = ("expires", "countdown", "eta", "link", "link_error")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What storing one draft did: put, unchanged or older (a newer process owns the entry)."""

    name: str
    entry_id: int
    status: str


@dataclass(slots=True)
class _Call:
    """One call of `Storing.store`: what its repetition has in common with it, by (name, is one-time) the ids reserved for it."""

    now_ms: int
    process_start_ms: int | None
    reserved: dict[tuple[str, bool], int] = field(default_factory=dict)


class Storing:
    """Writes definitions into one timetable."""

    def __init__(self, app: Any, timetable: Timetable, renderer: Any, *, fire_ids: FireIds, broker_fingerprint: str) -> None:
        self.app = app
        self.timetable = timetable
        self.renderer = renderer
        self.fire_ids = fire_ids
        self.broker_fingerprint = broker_fingerprint

    def store(self, drafts: Sequence[Draft], *, now_ms: int, process_start_ms: int | None = None) -> list[Outcome]:
        """Store up to 500 drafts with names of their own; return what each did.

        A call whose reply was lost is repeated once: every write finds out that it has been done.
        """
        call = _Call(now_ms, process_start_ms)
        try:
            return self._store(drafts, call)
        except StoreUnavailable:
            return self._store(drafts, call)

    def _store(self, drafts: Sequence[Draft], call: _Call) -> list[Outcome]:
        outcomes: dict[str, Outcome] = {}
        left = {draft.definition.name: draft for draft in drafts}
        if len(left) != len(drafts):
            raise InvalidEntry("two entries of one call have the same name: names are unique")
        for attempt in range(TRIES):
            done = self._store_once(list(left.values()), call)
            outcomes |= done
            for name in done:
                del left[name]
            if not left:
                return [outcomes[draft.definition.name] for draft in drafts]
            time.sleep(0.002 * attempt)
        raise StoreUnavailable(f"entry {next(iter(left))!r} is being changed by others all the time: try again")

    def _store_once(self, drafts: Sequence[Draft], call: _Call) -> dict[str, Outcome]:
        found = self.timetable.find([draft.definition.name for draft in drafts])
        packed = [(draft, entry_id) for draft, entry_id in zip(drafts, found, strict=True) if _fits_one_message(draft)]
        others = [(draft, entry_id) for draft, entry_id in zip(drafts, found, strict=True) if not _fits_one_message(draft)]
        done, several = self._put_one_time(packed, call)
        return done | self._put_recurring(others + several, call)

    def _with_ids(self, drafts: Sequence[tuple[Draft, int | None]], call: _Call, *, one_time: bool) -> list[tuple[Draft, int, bool]]:
        """Return each draft with its entry's id, and whether the id is fresh; a repeated call reserves no other ids."""
        keys = [(draft.definition.name, one_time) for draft, _ in drafts]
        wanted = [key for key, (_, entry_id) in zip(keys, drafts, strict=True) if entry_id is None and key not in call.reserved]
        if wanted:
            call.reserved.update(zip(wanted, self.timetable.reserve(len(wanted), one_time=one_time), strict=True))
        return [
            (draft, call.reserved[key], True) if entry_id is None else (draft, entry_id, False)
            for key, (draft, entry_id) in zip(keys, drafts, strict=True)
        ]

    # Recurring entries

    def _put_recurring(self, drafts: Sequence[tuple[Draft, int | None]], call: _Call) -> dict[str, Outcome]:
        if not drafts:
            return {}
        placed = self._with_ids(drafts, call, one_time=False)
        for draft, entry_id, _ in placed:
            _refuse_other_kind(draft, entry_id, one_time=False)
        known = [entry_id for _, entry_id, fresh in placed if not fresh]
        standing = dict(zip(known, self.timetable.read(known), strict=True)) if known else {}
        outcomes, writes = {}, []
        for draft, entry_id, _ in placed:
            write = self._recurring_write(draft, entry_id, standing.get(entry_id), call.now_ms)
            if write is None:
                outcomes[draft.definition.name] = Outcome(draft.definition.name, entry_id, "unchanged")
            else:
                writes.append(write)
        if writes:
            _, statuses = self.timetable.put(writes, process_start_ms=call.process_start_ms)
            for write, status in zip(writes, statuses, strict=True):
                if status != "raced":
                    outcomes[write.name] = Outcome(write.name, write.entry_id, status)
        return outcomes

    def _recurring_write(self, draft: Draft, entry_id: int, stored: Stored | None, now_ms: int) -> RecurringWrite | None:
        """Return what to write, or None when an equal definition stands."""
        standing = self._standing(stored)
        definition, recurrence, encoded = draft.definition, draft.recurrence, draft.encoded
        if draft.floating:
            definition = keep_anchor(definition, standing)
            if definition is not draft.definition:
                recurrence, encoded = self._recurrence(definition), encode_definition(definition)
        if stored is not None and not stored.removed and stored.definition == encoded:
            return None
        change = upsert(definition, standing, old_recurrence=self._old_recurrence(standing), now_ms=now_ms)
        due_ms = first_due_ms(definition, recurrence, entry_id=entry_id, mark_ms=change.mark_ms)
        if due_ms is None and (stored is None or stored.removed):
            raise InvalidSchedule(f"entry {definition.name!r} would never fire: its schedule has no slot from now on")
        return RecurringWrite(
            name=definition.name,
            entry_id=entry_id,
            version=None if stored is None else stored.version,
            definition=encoded,
            mark_ms=change.mark_ms,
            due_ms=None if stored is not None and _rests(stored, definition) else due_ms,
            mark_expected_ms=stored.mark_ms if stored is not None and change.timed else None,
            skipped=change.skipped,
        )

    def _standing(self, stored: Stored | None) -> Standing | None:
        if stored is None:
            return None
        try:
            definition: Definition | None = decode_definition(stored.definition)
        except MalformedRecord:
            definition = None
        return Standing(definition, stored.mark_ms, stored.removed)

    def _old_recurrence(self, standing: Standing | None) -> Recurrence | None:
        if standing is None or standing.definition is None or standing.removed:
            return None
        try:
            return self._recurrence(standing.definition)
        except CeleryTWError:
            return None

    def _recurrence(self, definition: Definition) -> Recurrence:
        inner = recurrence_of(definition.schedule, app=self.app)
        return Bounded(inner, start_ms=definition.start_ms, end_ms=definition.end_ms)

    # One-time tasks

    def _put_one_time(
        self, drafts: Sequence[tuple[Draft, int | None]], call: _Call
    ) -> tuple[dict[str, Outcome], list[tuple[Draft, int | None]]]:
        """Store one-time tasks; return what was done, and those that turn out to take more than one push."""
        outcomes: dict[str, Outcome] = {}
        writes: list[OneTimeWrite] = []
        several: list[tuple[Draft, int | None]] = []
        for draft, entry_id, fresh in self._with_ids(drafts, call, one_time=True) if drafts else ():
            name = draft.definition.name
            _refuse_other_kind(draft, entry_id, one_time=True)
            _refuse_past(draft.definition, call.now_ms)
            write = self._one_time_write(draft, entry_id, call.now_ms)
            if write is None:
                several.append((draft, None if fresh else entry_id))
            elif not fresh and self._stands(entry_id, write):
                outcomes[name] = Outcome(name, entry_id, "unchanged")
            else:
                writes.append(write)
        if writes:
            _, statuses = self.timetable.put_one_time(writes)
            for write, status in zip(writes, statuses, strict=True):
                if status != "raced":
                    outcomes[write.name] = Outcome(write.name, write.entry_id, "unchanged" if status == "fired" else status)
        return outcomes, several

    def _one_time_write(self, draft: Draft, entry_id: int, now_ms: int) -> OneTimeWrite | None:
        """Return the task with its message, or None when it takes more than one push (a fanout, a queue that expires)."""
        definition = draft.definition
        at_ms = int(definition.schedule["at_ms"])
        mid = self.fire_ids.fire_id(entry_id, at_ms)
        command, *more = self.renderer.prepare(definition).commands(Fire(mid, at_ms, definition.name))
        if more or not command.carries_a_message:
            return None
        record = OneTime(
            mid=mid,
            name=definition.name,
            stored_ms=now_ms,
            last_ms=at_ms + definition.tolerance_ms if definition.misfire.policy == "skip" else None,
            fingerprint=self.broker_fingerprint,
            queue_key=command.key.decode(),
            extra=_extra(draft),
            message=command.payload,
        )
        return OneTimeWrite(name=definition.name, entry_id=entry_id, mid=mid, due_ms=at_ms, record=record.pack())

    def _stands(self, entry_id: int, write: OneTimeWrite) -> bool:
        record, due_ms, _ = self.timetable.read_one_time(entry_id)
        if record is None or due_ms != write.due_ms:
            return False
        try:
            return unpack_one_time(record).extra.get("digest") == unpack_one_time(write.record).extra["digest"]
        except MalformedRecord:
            return False


def _fits_one_message(draft: Draft) -> bool:
    """Return whether the draft is a one-time task of a single message that does not depend on when it goes out."""
    definition = draft.definition
    options = definition.signature.get("options") or {}
    return (
        definition.schedule["kind"] == "once"
        and definition.source == "api"
        and definition.start_ms is definition.end_ms is definition.max_runs is None
        and not definition.jitter_ms
        and not definition.signature.get("subtask_type")
        and not any(options.get(option) for option in RENDERED_LATE)
    )


def _rests(stored: Stored, definition: Definition) -> bool:
    """Return whether an entry has no due time whatever its schedule says: it is paused, or has had all its runs."""
    if stored.removed:
        return False
    return stored.paused or (definition.max_runs is not None and stored.count >= definition.max_runs)


def _refuse_other_kind(draft: Draft, entry_id: int, *, one_time: bool) -> None:
    if is_one_time(entry_id) != one_time:
        kind = "one-time task" if is_one_time(entry_id) else "recurring entry"
        raise InvalidEntry(f"{draft.definition.name!r} is a {kind} already: remove it before it becomes another kind of entry")


def _refuse_past(definition: Definition, now_ms: int) -> None:
    late_ms = now_ms - int(definition.schedule["at_ms"])
    if late_ms > definition.tolerance_ms:
        raise InvalidSchedule(
            f"the moment of one-time entry {definition.name!r} passed {late_ms / 1000:.1f} s ago: "
            "give a moment to come, or send the task itself"
        )


def _extra(draft: Draft) -> dict[str, Any]:
    """Return what people are shown of a stored one-time task, and the digest by which an equal definition is known."""
    definition = draft.definition
    extra = {"task": definition.task, "digest": _digest(draft.encoded), "misfire": definition.misfire.policy}
    if definition.delivery != "at_least_once":
        extra["delivery"] = definition.delivery
    return {**extra, "note": definition.note} if definition.note else extra


def _digest(encoded: bytes) -> str:
    return hashlib.blake2b(encoded, digest_size=8).hexdigest()
