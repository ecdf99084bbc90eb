"""Entries: the recurring entries that the leader has read and prepared.

A cache, bounded and never trusted: FIRE compares the version it was decided on. An entry that has changed is forgotten when the news of
it come, or at the latest when FIRE refuses.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from celery_tw.core.command import Command, Fire
from celery_tw.core.definition import Definition
from celery_tw.core.recurrence import Recurrence
from celery_tw.errors import MalformedRecord, NewerSchema, StaleEpoch, StoreUnavailable
from celery_tw.scheduler.decision import Decision
from celery_tw.scheduler.ports import Rendering, Workshop
from celery_tw.stores.redis.codec import decode_definition
from celery_tw.stores.redis.dispatching import SlotWrite
from celery_tw.stores.redis.envelope import read_envelope
from celery_tw.stores.redis.timetable import Stored, Timetable

logger = logging.getLogger(__name__)

KEPT = 200_000


@dataclass(frozen=True, slots=True)
class Ready:
    """What was decided ahead for an entry due at *due_ms*. It holds until *until_ms*: from then on the slot counts as missed."""

    due_ms: int
    until_ms: int
    decision: Decision
    write: SlotWrite

    def serves(self, due_ms: int | None, now_ms: int) -> bool:
        """Return whether deciding at *now_ms*, for an entry due at *due_ms*, would lead to the same."""
        return due_ms == self.due_ms <= now_ms <= self.until_ms


@dataclass(slots=True)
class Known:
    """A recurring entry as this leader last saw it; the leader moves *mark_ms* and *count* along as it fires."""

    entry_id: int
    definition: Definition
    recurrence: Recurrence
    rendering: Rendering
    version: int
    mark_ms: int
    count: int
    due_ms: int | None
    open_key: bytes = b""
    ready: Ready | None = None

    @property
    def can_be_decided_ahead(self) -> bool:
        """Return whether neither its message nor its decision depends on the moment when it is due."""
        return self.rendering.timeless and not self.definition.counted

    def commands(self, fire: Fire) -> list[Command]:
        """Return what puts the messages of *fire* into the broker, and counts their tasks if they are to be counted."""
        commands = self.rendering.commands(fire)
        if not fire.counted:
            return commands
        return commands + [Command("count", self.open_key, task_id.encode()) for task_id in _task_ids(commands, fire)]


class Entries:
    """Recurring entries by id.

    *on_unreadable* is told of an entry that can never be fired as it is stored, with the reason; *on_unable* of one that this process
    cannot fire now (its code lacks what the entry needs); *on_newer* of one that only a newer version can read.
    """

    on_unreadable: Callable[[int, str], None]
    on_unable: Callable[[Stored, str, str], None]
    on_newer: Callable[[str], None]

    def __init__(self, timetable: Timetable, workshop: Workshop) -> None:
        self.timetable = timetable
        self.workshop = workshop
        self._known: dict[int, Known] = {}
        self._unreadable: set[int] = set()
        self._fingerprint: object = None

    def clear(self) -> None:
        self._known.clear()
        self._unreadable.clear()
        self._fingerprint = self.workshop.fingerprint()

    def forget(self, entry_id: int) -> None:
        """Drop what is known of an entry; it is read again when needed."""
        self._known.pop(entry_id, None)
        self._unreadable.discard(entry_id)

    def get(self, entry_id: int) -> Known | None:
        return self._known.get(entry_id)

    def drop_outdated(self) -> None:
        """Forget all prepared messages when routes, serializer, signals or the like have changed."""
        if self.workshop.fingerprint() != self._fingerprint:
            self.clear()

    def load(self, entry_ids: Iterable[int]) -> None:
        """Read and prepare those of *entry_ids* that are not known yet."""
        unknown = [entry_id for entry_id in entry_ids if entry_id not in self._known and entry_id not in self._unreadable]
        if not unknown:
            return
        while self._known and len(self._known) + len(unknown) > KEPT:
            del self._known[next(iter(self._known))]
        for stored in self.timetable.read(unknown):
            if stored is not None and not stored.removed and not stored.paused:
                self._prepare(stored)

    def _prepare(self, stored: Stored) -> None:
        definition = None
        try:
            definition = decode_definition(stored.definition)
            prepared = self.workshop.prepare(definition)
        except NewerSchema as error:
            self.on_newer(str(error))
        except MalformedRecord as error:
            self._unreadable.add(stored.entry_id)
            self.on_unreadable(stored.entry_id, str(error))
        except (StoreUnavailable, StaleEpoch):
            raise
        except Exception as error:  # whatever a user's schedule class or this image's zone data may raise: it concerns this entry alone
            self.on_unable(stored, definition.name if definition else str(stored.entry_id), f"{type(error).__name__}: {error}")
        else:
            self._known[stored.entry_id] = Known(
                entry_id=stored.entry_id,
                definition=prepared.definition,
                recurrence=prepared.recurrence,
                rendering=prepared.rendering,
                version=stored.version,
                mark_ms=stored.mark_ms,
                count=stored.count,
                due_ms=stored.due_ms,
                open_key=self.timetable.keys.open_fires(prepared.definition.name).encode(),
            )


def _task_ids(commands: Sequence[Command], fire: Fire) -> list[str]:
    """Return the ids of the tasks in the messages of *fire*; what says none counts under the fire's own."""
    ids = []
    for command in commands:
        if command.operation == "pexpire":
            continue
        try:
            ids.append(read_envelope(command.payload).task_id or fire.fire_id)
        except MalformedRecord:
            ids.append(fire.fire_id)
    return list(dict.fromkeys(ids))
