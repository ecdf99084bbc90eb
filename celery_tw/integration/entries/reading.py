"""Reading: from what is stored to what people see. What cannot be read is shown with the reason, never hidden."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from celery.canvas import Signature, maybe_signature

from celery_tw.core.definition import Definition
from celery_tw.core.identity import FireIds
from celery_tw.errors import CeleryTWError, UnknownEntry
from celery_tw.integration.entries.static_entries import Static, required_static
from celery_tw.integration.entries.views import Entry, Slot
from celery_tw.integration.moments import from_ms
from celery_tw.stores.redis.codec import decode_definition, decode_skip, unpack_one_time
from celery_tw.stores.redis.keys import ONE_TIME_SKIPS, is_one_time
from celery_tw.stores.redis.timetable import Stored, Timetable

LOOKED_THROUGH = 10_000

_SHOWN = ("tolerance_ms", "jitter_ms", "start_ms", "end_ms", "max_runs", "delivery", "overlap")


class Reading:
    """Reads entries and history of one timetable; *statics* are the live settings entries of this process."""

    def __init__(self, app: Any, timetable: Timetable, *, fire_ids: FireIds, statics: Mapping[str, Static]) -> None:
        self.app = app
        self.timetable = timetable
        self.fire_ids = fire_ids
        self.statics = statics

    def entry(self, name: str, entry_id: int) -> Entry:
        """Return one entry; raises `UnknownEntry` when it has gone meanwhile."""
        entries = self.entries([(name, entry_id)])
        if not entries:
            raise UnknownEntry(name)
        return entries[0]

    def entries(self, named: Sequence[tuple[str, int]]) -> list[Entry]:
        """Return the entries of pairs of name and id, in order, without those that have gone meanwhile."""
        recurring = [entry_id for _, entry_id in named if not is_one_time(entry_id)]
        stored = dict(zip(recurring, self.timetable.read(recurring), strict=True))
        found = [
            self._one_time(name, entry_id) if is_one_time(entry_id) else _recurring(name, stored[entry_id]) for name, entry_id in named
        ]
        return [entry for entry in found if entry is not None]

    def _one_time(self, name: str, entry_id: int) -> Entry | None:
        record, due_ms, held = self.timetable.read_one_time(entry_id)
        if record is None:
            return None
        try:
            task = unpack_one_time(record)
        except CeleryTWError as error:
            return _unreadable(name, entry_id, "one-time", str(error))
        return Entry(
            name=name,
            entry_id=entry_id,
            kind="one-time",
            task=str(task.extra.get("task", "")),
            schedule={"kind": "once", "at_ms": due_ms},
            source="api",
            paused=held,
            next_run=None if held else _moment(due_ms),
            last_run=None,
            total_runs=0,
            misfire={"policy": task.extra.get("misfire", "latest")},
            note=str(task.extra.get("note", "")),
        )

    def fired(self, definition: Definition, entry_id: int) -> Entry:
        """Return an entry that has left the timetable since it was stored, as it was defined."""
        return Entry(
            name=definition.name,
            entry_id=entry_id,
            kind="one-time",
            task=definition.task,
            schedule=definition.schedule,
            source=definition.source,
            paused=False,
            next_run=None,
            last_run=None,
            total_runs=1,
            misfire=definition.misfire.to_spec(),
            note=definition.note,
        )

    def history(self, entry_id: int, limit: int) -> list[Slot]:
        """Return the last *limit* fires and skipped ranges, newest first."""
        fires, skips = self.timetable.history(entry_id, limit)
        slots = [self._fired(entry_id, line) for line in fires] + [_skipped(raw) for raw in skips]
        return sorted(slots, key=lambda slot: slot.until or slot.slot, reverse=True)[:limit]

    def skipped_one_time(self, name: str) -> list[Slot]:
        """Return the slots of one-time tasks called *name* that were skipped because they were too late, newest first."""
        _, skips = self.timetable.history(ONE_TIME_SKIPS, LOOKED_THROUGH)
        return [_skipped(raw) for raw in skips if json.loads(raw).get("name") == name]

    def _fired(self, entry_id: int, line: bytes) -> Slot:
        slot_ms, fired_ms, generation = (int(word) for word in line.split())
        return Slot(
            slot=from_ms(slot_ms),
            status="fired",
            fired_at=from_ms(fired_ms),
            lateness=(fired_ms - slot_ms) / 1000,
            task_id=self.fire_ids.fire_id(entry_id, slot_ms, generation),
            generation=generation,
        )

    def live_schedule(self, definition: Definition) -> Any:
        """Return the schedule object that a ``custom`` spec stands for, or None for all others."""
        if definition.schedule.get("kind") != "custom":
            return None
        return required_static(self.statics, definition).schedule

    def live_signature(self, definition: Definition) -> Signature:
        """Return what the entry sends, with lazy arguments computed now."""
        if definition.local:
            static = required_static(self.statics, definition)
            args, kwargs = static.evaluated_args(), static.evaluated_kwargs()
            return self.app.signature(static.task, args=args, kwargs=kwargs, options=dict(static.options))
        return maybe_signature(dict(definition.signature), app=self.app, clone=True)


def _recurring(name: str, stored: Stored | None) -> Entry | None:
    if stored is None or stored.removed:
        return None
    try:
        definition = decode_definition(stored.definition)
    except CeleryTWError as error:
        return _unreadable(name, stored.entry_id, "recurring", str(error))
    return Entry(
        name=name,
        entry_id=stored.entry_id,
        kind="recurring",
        task=definition.task,
        schedule=definition.schedule,
        source=definition.source,
        paused=stored.paused,
        next_run=_moment(stored.due_ms),
        last_run=_moment(stored.fired_ms),
        total_runs=stored.count,
        misfire=definition.misfire.to_spec(),
        note=definition.note,
        pause_note=stored.pause_note,
        signature=definition.signature,
        options={field: getattr(definition, field) for field in _SHOWN},
    )


def _unreadable(name: str, entry_id: int, kind: Any, error: str) -> Entry:
    return Entry(
        name=name,
        entry_id=entry_id,
        kind=kind,
        task="",
        schedule={},
        source="",
        paused=False,
        next_run=None,
        last_run=None,
        total_runs=0,
        misfire={},
        error=error,
    )


def _skipped(raw: bytes) -> Slot:
    skipped = decode_skip(raw)
    return Slot(
        slot=from_ms(skipped.from_ms),
        status="skipped",
        until=from_ms(skipped.to_ms),
        count=skipped.count,
        at_least=skipped.at_least,
        reason=skipped.reason,
    )


def _moment(ms: int | None) -> datetime | None:
    return None if ms is None else from_ms(ms)
