"""Eject: the way out. Every waiting one-time task goes back to Celery, as a message with an ETA that a worker holds.

Task id, headers and body stay what they are; ``eta`` says when the task is due, and ``tw_eta`` and ``tw_seq`` go. On a Redis broker a task
is pushed and taken off by one script, so it is neither lost nor doubled whatever happens meanwhile. To any other broker it is published
first, and taken off when the broker has confirmed it: should the process die in between, it goes out a second time, with the same ids.

Recurring entries stay, and so does what is paused, what cannot be read and what the broker does not take.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from celery_tw.core.command import Command
from celery_tw.errors import BrokerUnavailable, CeleryTWError, RenderFailed, StoreRefused
from celery_tw.integration.broker import shares_redis
from celery_tw.integration.messages.collecting import collect
from celery_tw.integration.messages.identity_headers import ETA, unnumbered
from celery_tw.integration.messages.neutral import publish_arguments
from celery_tw.integration.messages.rerendering import queues_of
from celery_tw.integration.moments import from_ms
from celery_tw.integration.publishing.choice import publisher_for
from celery_tw.scheduler.ports import Publisher
from celery_tw.stores.redis.codec import OneTime, unpack_one_time
from celery_tw.stores.redis.ejecting import DueTask, Ejecting
from celery_tw.stores.redis.envelope import Envelope, read_envelope
from celery_tw.stores.redis.timetable import Timetable

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ejected:
    """How many tasks went back to Celery, how many left by themselves meanwhile, and how many stay: paused, or refused (see the log)."""

    ejected: int
    gone: int
    paused: int
    refused: int


@dataclass(frozen=True, slots=True)
class _Leaving:
    """A task on its way out."""

    entry_id: int
    due_ms: int
    task: OneTime
    envelope: Envelope
    key: str

    def __str__(self) -> str:
        return f"task {self.task.task_id or self.task.name} ({self.task.extra.get('task')})"


class Ejector:
    """Hands the one-time tasks of one timetable back to Celery."""

    def __init__(self, app: Any, timetable: Timetable, ejecting: Ejecting) -> None:
        self.app = app
        self.timetable = timetable
        self.ejecting = ejecting

    def count(self) -> int:
        """Return how many tasks there are to hand back."""
        return self.ejecting.count()[0]

    def eject(self) -> Ejected:
        """Hand everything back that is waiting now, what is due next first.

        Raises `StoreUnavailable` or `BrokerUnavailable` when Redis or the broker does not answer; what was not handed back by then waits
        on, for another call.
        """
        counts: Counter[str] = Counter()
        publisher = publisher_for(self.app, now_ms=self.timetable.now_ms, go_on=lambda: True)
        pushes = shares_redis(self.app)
        try:
            for page in self.ejecting.pages():
                leaving = list(self._read(page, counts))
                counts.update(self._push(leaving) if pushes else self._publish(leaving, publisher))
        finally:
            publisher.close()
        paused = self.ejecting.count()[1]
        return Ejected(counts["ejected"], counts["gone"] + counts["moved"], paused, counts["refused"])

    def _read(self, page: Sequence[DueTask], counts: Counter[str]) -> Iterator[_Leaving]:
        for waiting in page:
            if not waiting.record:
                counts["gone"] += 1
                continue
            try:
                yield _leaving(waiting)
            except CeleryTWError as error:
                logger.error("one-time task %d stays in the timetable: %s", waiting.entry_id, error)
                counts["refused"] += 1

    def _push(self, leaving: Sequence[_Leaving]) -> Iterator[str]:
        """Hand tasks to the queues of the timetable's own Redis; return what became of each."""
        for each in leaving:
            try:
                yield self._take_off(each, push=self._render(each))
            except (RenderFailed, StoreRefused) as error:
                logger.error("%s stays in the timetable: %s", each, error)
                yield "refused"

    def _render(self, leaving: _Leaving) -> Command:
        envelope = leaving.envelope
        with collect(self.app, numbered=False) as collected:
            arguments = publish_arguments(envelope, now_ms=self.timetable.now_ms())
            collected.producer.publish(declare=queues_of(self.app, envelope), **arguments)
        if len(collected.commands) != 1 or collected.commands[0].operation != "lpush":
            raise RenderFailed(leaving.task.name, "it does not go to one queue as one message")
        return collected.commands[0]

    def _publish(self, leaving: Sequence[_Leaving], publisher: Publisher) -> Iterator[str]:
        """Publish tasks to any other broker and take off what it has confirmed; return what became of each."""
        publisher.open()
        unanswered = 0
        for each, outcome in zip(leaving, publisher.publish([each.envelope for each in leaving]), strict=True):
            if outcome.verdict == "confirmed":
                yield self._take_off(each, push=None)
            elif outcome.verdict == "unknown":
                unanswered += 1
            else:
                logger.error("%s stays in the timetable: the broker does not take it: %s %s", each, outcome.verdict, outcome.reason)
                yield "refused"
        if unanswered:
            raise BrokerUnavailable(f"the broker did not say whether it has taken {unanswered} of {len(leaving)} messages")

    def _take_off(self, leaving: _Leaving, *, push: Command | None) -> str:
        return self.ejecting.eject(leaving.entry_id, leaving.task, due_ms=leaving.due_ms, push=push, key=leaving.key)


def _leaving(waiting: DueTask) -> _Leaving:
    """Return a task with its message as Celery would have sent it with that ETA; raises `MalformedRecord` or `NewerSchema`."""
    task = unpack_one_time(waiting.record)
    envelope = read_envelope(task.message)
    headers = unnumbered({name: value for name, value in envelope.headers.items() if name != ETA})
    headers["eta"] = from_ms(waiting.due_ms).isoformat()
    if task.last_ms is not None and not headers.get("expires"):
        headers["expires"] = from_ms(task.last_ms).isoformat()
    return _Leaving(waiting.entry_id, waiting.due_ms, task, replace(envelope, headers=headers), waiting.key)
