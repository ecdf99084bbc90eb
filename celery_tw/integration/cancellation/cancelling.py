"""Cancelling: a task that waits in the timetable is taken off before it fires.

=============================  ==========================================================================================
what is asked for              what happens
=============================  ==========================================================================================
``tw.cancel(task_id)``         what waits under the id is taken off; if nothing does, the workers are asked to revoke it,
                               for it may be on its way
a revoke, by id                what waits is taken off, and Celery's revoke goes on as ever (``remote_control.py``,
                               ``revoking.py``)
a revoke, by stamped headers   so too; what waits is searched page by page
=============================  ==========================================================================================

Redis decides each race with a fire in one script: a task is either taken off or handed to the broker. A cancellation concerns what was
stored before it: sent again, the same id waits and runs. (The workers' own list of revoked ids, which Celery's revoke writes and `cancel`
leaves alone as long as it finds the task waiting, knows no such difference.)
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from celery_tw.errors import MalformedRecord, NewerSchema
from celery_tw.integration.cancellation.announcing import announce
from celery_tw.integration.cancellation.stamps import Headers, matches, stamps_of, texts_of
from celery_tw.integration.moments import from_ms
from celery_tw.stores.redis.cancelling import Cancelling, Waiting
from celery_tw.stores.redis.codec import OneTime, unpack_one_time
from celery_tw.stores.redis.envelope import Envelope, read_envelope
from celery_tw.stores.redis.runs.runs import Runs
from celery_tw.stores.redis.terminations import Terminations
from celery_tw.stores.redis.timetable import Timetable

logger = logging.getLogger(__name__)

SEARCHED_AT_MOST = 1_000_000
FIRE_ID_VERSION = 5
LONGEST_GRACE_S = 7 * 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingTask:
    """A task that waits in the timetable, or did until it was cancelled.

    *due* is None when it had been set aside as unreadable. *entry* is the name of the one-time entry it belongs to, '' for a deferred task.
    """

    task_id: str
    task: str
    due: datetime | None
    entry: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancellation:
    """What `cancel` found and did: *waiting* is what it took off; *revoked* tells that the workers were asked to revoke the id instead.

    *stopping* tells that a task with one of our bases runs under the id and was asked to stop; *terminate_after* is in how many seconds it
    is ended if it has not, None when it may take its time.
    """

    task_id: str
    waiting: tuple[WaitingTask, ...]
    revoked: bool
    stopping: bool = False
    terminate_after: float | None = None

    @property
    def found(self) -> bool:
        """Whether anything waited under the id."""
        return bool(self.waiting)


class Canceller:
    """Cancels what waits in one app's timetable."""

    def __init__(
        self, app: Any, timetable: Timetable, cancelling: Cancelling, runs: Runs | None = None, terminations: Terminations | None = None
    ) -> None:
        self.runs = runs
        self.terminations = terminations
        self.app = app
        self.timetable = timetable
        self.cancelling = cancelling

    def cancel(self, task_id: str, reason: str = "cancelled", *, terminate_after: float | None = None) -> Cancellation:
        """Take what waits under *task_id* off, or else ask the workers to revoke it; see `TimeWheel.cancel`."""
        _refuse_no_task_id(task_id)
        _refuse_no_seconds(terminate_after)
        stopping, graces = self._ask_to_stop(task_id, reason, terminate_after)
        taken = self.take_off([task_id]) or self._take_off_fire(task_id)
        if not taken:
            self.app.control.revoke(task_id, tw_cancelled=self.namespace)
        return Cancellation(
            task_id=task_id, waiting=tuple(taken), revoked=not taken, stopping=stopping, terminate_after=min(graces, default=None)
        )

    def _ask_to_stop(self, task_id: str, reason: str, terminate_after: float | None) -> tuple[bool, list[float]]:
        """Ask the runs of a task to stop; return whether there are any, and after how many seconds those are ended that are to be."""
        asked = self.runs.under_way.ask_to_cancel(task_id, reason) if self.runs else []
        graces = []
        for record in self.runs.under_way.read(asked) if self.runs and asked else ():
            grace = terminate_after if terminate_after is not None else getattr(self.app.tasks.get(record.task), "cancel_grace", None)
            if grace is not None and self.terminations is not None:
                self.terminations.plan(record.mid, after_ms=round(grace * 1000))
                graces.append(grace)
        return bool(asked), graces

    def terminate(self, task_id: str) -> None:
        """Tell the workers to end the process that runs *task_id*."""
        self.app.control.revoke(task_id, terminate=True, signal="SIGTERM", tw_cancelled=self.namespace)

    def stop(self, task_ids: Sequence[str], reason: str) -> None:
        """Keep tasks from running, and ask those that run to stop, wherever they are."""
        for task_id in task_ids:
            self._ask_to_stop(task_id, reason, None)
        self.take_off(task_ids)
        self.app.control.revoke(list(task_ids), tw_cancelled=self.namespace)

    @property
    def namespace(self) -> str:
        return self.timetable.keys.namespace

    def waiting(self, task_id: str) -> list[WaitingTask]:
        """Return what waits under *task_id* now."""
        ids = self.cancelling.listed([task_id]).get(task_id, []) or [entry_id for entry_id, _ in self._with_fire_id(task_id)]
        return [_Read(waiting).view() for waiting in self.cancelling.read(ids) if waiting.record]

    def take_off(self, task_ids: Iterable[Any]) -> list[WaitingTask]:
        """Take what waits under any of *task_ids* off the timetable, and tell who has to know."""
        taken = self.cancelling.cancel([str(task_id) for task_id in task_ids])
        return self._announced([_Read(waiting) for found in taken.values() for waiting in found])

    def take_off_stamped(self, headers: Headers) -> list[WaitingTask]:
        """Take what waits with one of the stamps in *headers* off the timetable, and tell who has to know."""
        stamps = stamps_of(headers)
        found = [read for read in self._holding(texts_of(stamps)) if read.envelope and matches(stamps, read.envelope.headers)]
        listed = self.take_off({read.task_id: None for read in found if read.record and read.record.task_id})
        return listed + self._removed([read for read in found if read.record and read.record.name])

    # One-time entries, which are listed by name

    def _take_off_fire(self, task_id: str) -> list[WaitingTask]:
        return self._removed([read for _, read in self._with_fire_id(task_id)])

    def _with_fire_id(self, task_id: str) -> Iterator[tuple[int, "_Read"]]:
        """Yield the one-time entry whose fire has *task_id*; only an id that may be a fire's is searched for."""
        if not _may_be_a_fire_id(task_id):
            return
        for read in self._holding([b"\n%s\n" % task_id.encode()]):
            if read.record and read.record.mid == task_id:
                yield read.waiting.entry_id, read
                return

    def _removed(self, found: Sequence["_Read"]) -> list[WaitingTask]:
        return self._announced(
            [read for read in found if read.record and self.timetable.writing.remove(read.record.name, read.waiting.entry_id) == "removed"]
        )

    def _holding(self, texts: Sequence[bytes]) -> Iterator["_Read"]:
        """Yield the one-time tasks whose records hold one of *texts*, of the first `SEARCHED_AT_MOST`."""
        searched = 0
        for page in self.cancelling.pages() if texts else ():
            for waiting in self.cancelling.read(self.cancelling.containing(page, texts)):
                if waiting.record:
                    yield _Read(waiting)
            searched += len(page)
            if searched > SEARCHED_AT_MOST:
                logger.warning("only the next %d of the tasks that wait were searched", searched)
                return

    def _announced(self, taken: Sequence["_Read"]) -> list[WaitingTask]:
        announce(self.app, (read.envelope for read in taken if read.envelope))
        for read in taken:
            logger.info("task %s was taken off the timetable (entry %d)", read.task_id, read.waiting.entry_id)
        return [read.view() for read in taken]


class _Read:
    """A waiting task with what its record says, as far as it can be read."""

    def __init__(self, waiting: Waiting) -> None:
        self.waiting = waiting
        self.record: OneTime | None = None
        self.envelope: Envelope | None = None
        try:
            self.record = unpack_one_time(waiting.record)
            self.envelope = read_envelope(self.record.message)
        except (MalformedRecord, NewerSchema) as error:
            logger.warning("one-time task %d cannot be read: %s", waiting.entry_id, error)

    @property
    def task_id(self) -> str:
        if self.envelope and self.envelope.task_id:
            return self.envelope.task_id
        return self.record.task_id if self.record else ""

    def view(self) -> WaitingTask:
        """Return it as people see it."""
        due_ms, envelope, record = self.waiting.due_ms, self.envelope, self.record
        return WaitingTask(
            task_id=self.task_id,
            task=str(envelope.headers.get("task") or "") if envelope else "",
            due=None if due_ms is None else from_ms(due_ms),
            entry=record.name if record else "",
        )


def _refuse_no_task_id(task_id: Any) -> None:
    if not isinstance(task_id, str) or not task_id:
        raise ValueError(f"a task id is text, not {task_id!r}")


def _refuse_no_seconds(terminate_after: Any) -> None:
    if terminate_after is None or (isinstance(terminate_after, int | float) and 0 <= terminate_after <= LONGEST_GRACE_S):
        return
    raise ValueError(f"terminate_after is a number of seconds from 0 to {LONGEST_GRACE_S:,}, not {terminate_after!r}")


def _may_be_a_fire_id(task_id: str) -> bool:
    """Return whether *task_id* is a UUID of the version that fire ids have; Celery's own ids have another."""
    try:
        return UUID(task_id).version == FIRE_ID_VERSION
    except ValueError:
        return False
