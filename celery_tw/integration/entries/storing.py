"""Storing: carries drafts into the timetable, a chunk at a time.

Each chunk is read, decided (``core/upsert.py``) and written by one script. Writes of recurring entries compare the version that was read;
what lost a race is read and decided again. A one-time task whose message is a single one for one queue is stored with that message, ready
to go; any other (a canvas, one with ``expires``) is stored as a recurring entry with one slot and rendered when it is due.
"""

import hashlib
import logging
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from celery_tw.core.bounds import Bounded
from celery_tw.core.command import Command, Fire
from celery_tw.core.definition import Definition
from celery_tw.core.identity import FireIds
from celery_tw.core.recurrence import Recurrence
from celery_tw.core.upsert import Standing, keep_anchor, upsert
from celery_tw.errors import CeleryTWError, InvalidEntry, InvalidSchedule, MalformedRecord, StoreUnavailable
from celery_tw.integration.entries.drafting import Draft
from celery_tw.integration.messages.destinations import fair_lane_of
from celery_tw.integration.schedules.written import recurrence_of
from celery_tw.scheduler.decision import first_due_ms
from celery_tw.stores.redis.codec import OneTime, decode_definition, encode_definition, unpack_one_time
from celery_tw.stores.redis.envelope import read_envelope
from celery_tw.stores.redis.keys import is_one_time
from celery_tw.stores.redis.line import Call, Line
from celery_tw.stores.redis.timetable import Stored, Timetable
from celery_tw.stores.redis.writing import OneTimeWrite, RecurringWrite

logger = logging.getLogger(__name__)

TRIES = 10
_Found = tuple[Draft, int | None]
"""A draft, and the id that its name has already."""

RENDERED_LATE = ("expires", "countdown", "eta", "link", "link_error")


class Outcome(NamedTuple):
    """What storing one draft did: put, unchanged or older (a newer process owns the entry)."""

    name: str
    entry_id: int
    status: str


@dataclass(slots=True)
class _Call:
    """One call of `Storing.begin`: what its repetition has in common with it, by (name, is one-time) the ids reserved for it."""

    line: Line
    now_ms: int
    process_start_ms: int | None
    reserved: dict[tuple[str, bool], int] = field(default_factory=dict)


@dataclass(slots=True)
class _Sent:
    """Drafts on their way: *outcomes* by name of those that need no write, and the writes with the calls that carry them out."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    calls: list[tuple[Sequence[RecurringWrite | OneTimeWrite], Call]] = field(default_factory=list)

    def read(self) -> dict[str, Outcome]:
        """Return the outcome of each draft that did not lose a race, by name."""
        for writes, call in self.calls:
            _, statuses = call.statuses()
            for write, status in zip(writes, statuses, strict=True):
                if status != "raced":
                    self.outcomes[write.name] = Outcome(write.name, write.entry_id, "unchanged" if status == "fired" else status)
        return self.outcomes


@dataclass(frozen=True, slots=True)
class Begun:
    """A chunk that is being stored."""

    storing: "Storing"
    drafts: Sequence[Draft]
    call: _Call
    sent: _Sent

    def outcomes(self) -> list[Outcome]:
        """Wait for the end and return what each draft did; raises what `Storing.store` raises."""
        return self.storing.finish(self)


class Storing:
    """Writes definitions into one timetable."""

    def __init__(
        self,
        app: Any,
        timetable: Timetable,
        renderer: Any,
        *,
        fire_ids: FireIds,
        broker_fingerprint: str,
        fair: frozenset[str] = frozenset(),
    ) -> None:
        self.app = app
        self.timetable = timetable
        self.renderer = renderer
        self.fire_ids = fire_ids
        self.broker_fingerprint = broker_fingerprint
        self.fair = fair

    def store(self, drafts: Sequence[Draft], *, now_ms: int, process_start_ms: int | None = None) -> list[Outcome]:
        """Store up to 500 drafts with names of their own; return what each did.

        A call whose reply was lost is repeated once: every write finds out that it has been done.
        """
        with closing(Line(self.timetable.client)) as line:
            return self.begin(line, drafts, now_ms=now_ms, process_start_ms=process_start_ms).outcomes()

    def begin(self, line: Line, drafts: Sequence[Draft], *, now_ms: int, process_start_ms: int | None = None) -> Begun:
        """Do as `store`, on *line*, without waiting for the end: the next drafts can be made meanwhile."""
        if len({draft.name for draft in drafts}) != len(drafts):
            raise InvalidEntry("two entries of one call have the same name: names are unique")
        call = _Call(line, now_ms, process_start_ms)
        try:
            return Begun(self, drafts, call, self._send(drafts, call))
        except StoreUnavailable:
            return Begun(self, drafts, call, self._send(drafts, call))

    def finish(self, begun: Begun) -> list[Outcome]:
        """Return what each draft did; those that lost a race, or whose reply was lost, are tried again."""
        try:
            outcomes = begun.sent.read()
        except StoreUnavailable:
            outcomes = {}
        for attempt in range(TRIES):
            left = [draft for draft in begun.drafts if draft.name not in outcomes]
            if not left:
                return [outcomes[draft.name] for draft in begun.drafts]
            time.sleep(0.002 * attempt)
            outcomes |= self._send(left, begun.call).read()
        raise StoreUnavailable(f"entry {left[0].name!r} is being changed by others all the time: try again")

    def _send(self, drafts: Sequence[Draft], call: _Call) -> _Sent:
        sent = _Sent()
        found = list(zip(drafts, self.timetable.find([draft.name for draft in drafts]), strict=True))
        one_time, others = _partition(found)
        self._send_recurring(others + self._send_one_time(one_time, call, sent), call, sent)
        return sent

    def _with_ids(self, drafts: Sequence[_Found], call: _Call, *, one_time: bool) -> list[tuple[Draft, int, bool]]:
        """Return each draft with its entry's id, and whether the id is fresh; a repeated call reserves no other ids."""
        keys = [(draft.name, one_time) for draft, _ in drafts]
        wanted = [key for key, (_, entry_id) in zip(keys, drafts, strict=True) if entry_id is None and key not in call.reserved]
        if wanted:
            call.reserved.update(zip(wanted, self.timetable.reserve(len(wanted), one_time=one_time), strict=True))
        return [
            (draft, call.reserved[key], True) if entry_id is None else (draft, entry_id, False)
            for key, (draft, entry_id) in zip(keys, drafts, strict=True)
        ]

    # Recurring entries

    def _send_recurring(self, drafts: Sequence[_Found], call: _Call, sent: _Sent) -> None:
        if not drafts:
            return
        placed = self._with_ids(drafts, call, one_time=False)
        for draft, entry_id, _ in placed:
            _refuse_other_kind(draft, entry_id, one_time=False)
        known = [entry_id for _, entry_id, fresh in placed if not fresh]
        standing = dict(zip(known, self.timetable.read(known), strict=True)) if known else {}
        writes = []
        for draft, entry_id, _ in placed:
            stored = standing.get(entry_id)
            write = _new_write(draft, entry_id, call.now_ms) if stored is None else self._changed_write(draft, stored, call.now_ms)
            if write is None:
                sent.outcomes[draft.name] = Outcome(draft.name, entry_id, "unchanged")
            else:
                writes.append(write)
        if writes:
            sent.calls.append((writes, self.timetable.writing.send_put(call.line, writes, process_start_ms=call.process_start_ms)))

    def _changed_write(self, draft: Draft, stored: Stored, now_ms: int) -> RecurringWrite | None:
        """Return what to write, or None when an equal definition stands."""
        standing = _standing(stored)
        definition, recurrence, encoded = draft.definition, draft.recurrence, draft.encoded
        if draft.floating:
            anchored = keep_anchor(definition, standing)
            if anchored is not definition:
                definition, recurrence, encoded = anchored, self._recurrence(anchored), encode_definition(anchored)
        if not stored.removed and stored.definition == encoded:
            return None
        change = upsert(definition, standing, old_recurrence=self._old_recurrence(standing), now_ms=now_ms)
        due_ms = first_due_ms(definition, recurrence, entry_id=stored.entry_id, mark_ms=change.mark_ms)
        if due_ms is None and stored.removed:
            raise _never_fires(definition.name)
        return RecurringWrite(
            name=definition.name,
            entry_id=stored.entry_id,
            version=stored.version,
            definition=encoded,
            mark_ms=change.mark_ms,
            due_ms=None if _rests(stored, definition) else due_ms,
            mark_expected_ms=stored.mark_ms if change.timed else None,
            skipped=change.skipped,
        )

    def _old_recurrence(self, standing: Standing) -> Recurrence | None:
        if standing.definition is None or standing.removed:
            return None
        try:
            return self._recurrence(standing.definition)
        except CeleryTWError:
            return None

    def _recurrence(self, definition: Definition) -> Recurrence:
        inner = recurrence_of(definition.schedule, app=self.app)
        return Bounded(inner, start_ms=definition.start_ms, end_ms=definition.end_ms)

    # One-time tasks

    def _send_one_time(self, drafts: Sequence[_Found], call: _Call, sent: _Sent) -> list[_Found]:
        """Store one-time tasks; return those that turn out to take more than one push."""
        writes: list[OneTimeWrite] = []
        several: list[_Found] = []
        for draft, entry_id, fresh in self._with_ids(drafts, call, one_time=True) if drafts else ():
            name = draft.name
            _refuse_other_kind(draft, entry_id, one_time=True)
            _refuse_past(draft, call.now_ms)
            write = self._one_time_write(draft, entry_id, call.now_ms)
            if write is None:
                several.append((draft, None if fresh else entry_id))
            elif not fresh and self._stands(entry_id, write):
                sent.outcomes[name] = Outcome(name, entry_id, "unchanged")
            else:
                writes.append(write)
        if writes:
            sent.calls.append((writes, self.timetable.writing.send_put_one_time(call.line, writes)))
        return several

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
            extra={**_extra(draft), **self._lane(command)},
            message=command.payload,
        )
        return OneTimeWrite(name=definition.name, entry_id=entry_id, mid=mid, due_ms=at_ms, record=record.pack())

    def _lane(self, command: Command) -> dict[str, str]:
        return fair_lane_of(read_envelope(command.payload), fair=self.fair) if self.fair else {}

    def _stands(self, entry_id: int, write: OneTimeWrite) -> bool:
        record, due_ms, _ = self.timetable.read_one_time(entry_id)
        if record is None or due_ms != write.due_ms:
            return False
        try:
            return unpack_one_time(record).extra.get("digest") == unpack_one_time(write.record).extra["digest"]
        except MalformedRecord:
            return False


def _new_write(draft: Draft, entry_id: int, now_ms: int) -> RecurringWrite:
    """Return what to write where nothing stands."""
    mark_ms = upsert(draft.common, None, old_recurrence=None, now_ms=now_ms).mark_ms
    due_ms = first_due_ms(draft.common, draft.recurrence, entry_id=entry_id, mark_ms=mark_ms)
    if due_ms is None:
        raise _never_fires(draft.name)
    return RecurringWrite(name=draft.name, entry_id=entry_id, version=None, definition=draft.encoded, mark_ms=mark_ms, due_ms=due_ms)


def _standing(stored: Stored) -> Standing:
    try:
        definition: Definition | None = decode_definition(stored.definition)
    except MalformedRecord:
        definition = None
    return Standing(definition, stored.mark_ms, stored.removed)


def _never_fires(name: str) -> InvalidSchedule:
    return InvalidSchedule(f"entry {name!r} would never fire: its schedule has no slot from now on")


def _partition(found: Sequence[_Found]) -> tuple[list[_Found], list[_Found]]:
    """Return the drafts that can be stored with their message, and the others."""
    one_time: list[_Found] = []
    others: list[_Found] = []
    for pair in found:
        (one_time if _fits_one_message(pair[0]) else others).append(pair)
    return one_time, others


def _fits_one_message(draft: Draft) -> bool:
    """Return whether the draft is a one-time task of a single message that does not depend on when it goes out."""
    common, signature = draft.common, draft.signature
    options = signature.get("options") or {}
    return (
        common.schedule["kind"] == "once"
        and common.source == "api"
        and common.start_ms is common.end_ms is common.max_runs is None
        and not common.jitter_ms
        and not signature.get("subtask_type")
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
        raise InvalidEntry(f"{draft.name!r} is a {kind} already: remove it before it becomes another kind of entry")


def _refuse_past(draft: Draft, now_ms: int) -> None:
    late_ms = now_ms - int(draft.common.schedule["at_ms"])
    if late_ms > draft.common.tolerance_ms:
        raise InvalidSchedule(
            f"the moment of one-time entry {draft.name!r} passed {late_ms / 1000:.1f} s ago: give a moment to come, or send the task itself"
        )


def _extra(draft: Draft) -> dict[str, Any]:
    """Return what people are shown of a stored one-time task, and the digest by which an equal definition is known."""
    common = draft.common
    extra = {"task": str(draft.signature.get("task", "")), "digest": _digest(draft.encoded), "misfire": common.misfire.policy}
    if common.delivery != "at_least_once":
        extra["delivery"] = common.delivery
    return {**extra, "note": common.note} if common.note else extra


def _digest(encoded: bytes) -> str:
    return hashlib.blake2b(encoded, digest_size=8).hexdigest()
