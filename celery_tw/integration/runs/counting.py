"""Counting: a worker says when the tasks of an entry that may not overlap begin, wait again and end.

The fires of such an entry carry the header ``tw_counted``. Any task may be one, with our base or without, so Celery's signals do it:

=====================================  ================================================================================
a task with the header                 counts as
=====================================  ================================================================================
is fired (the leader says so)          queued, for ``tw_overlap_expires``
is about to run                        running, for ``tw_heartbeat_timeout``, and on as long as its process lives
is sent, by a task with the header     queued: the next one of a chain, the body of a chord, a retry (until it is due, and on)
is parked, yields, or is rejected      queued: its message comes back
with ``requeue``
has ended, is revoked, has expired     no more
was in a process that died             running, until that lapses
=====================================  ================================================================================

Where Redis does not answer nothing is held up: what should have been said lapses by itself.
"""

import logging
import os
from collections.abc import Callable
from typing import Any, NamedTuple

from celery import signals
from celery._state import get_current_task
from celery.utils import uuid

from celery_tw.clock import SystemClock
from celery_tw.errors import CeleryTWError, ImproperlyConfigured
from celery_tw.integration import broker
from celery_tw.integration.deferring.due_times import due_time_ms
from celery_tw.integration.messages.identity_headers import COUNTED, ENTRY
from celery_tw.integration.runs.postponed import Postponed
from celery_tw.runtime.presence import Presence
from celery_tw.runtime.run import State
from celery_tw.settings import Settings
from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.redis.open_fires import OpenFires

logger = logging.getLogger(__name__)

TIMEOUT_S = 0.8


class OpenTask(NamedTuple):
    """One task of a fire of the entry *name*."""

    name: str
    task_id: str


class Counting:
    """What one process needs to count the tasks of *app*; connects when first used."""

    def __init__(self, app: Any) -> None:
        self.settings = Settings.read(app.conf, app_name=app.main)
        self.open_fires = OpenFires(broker.connect(app, timeout_s=TIMEOUT_S), Keys(self.settings.namespace))
        self.presence = Presence(
            self.open_fires, interval_ms=self.settings.heartbeat_interval_ms, kept_ms=self.settings.heartbeat_timeout_ms
        )

    def begin(self, task: OpenTask) -> None:
        """Count *task* as running."""
        self.presence.add(*task)
        self.open_fires.begin(*task, kept_ms=self.settings.heartbeat_timeout_ms)

    def wait(self, task: OpenTask, *, delay_ms: int = 0) -> None:
        """Count *task* as queued; it is to run in *delay_ms*."""
        self.open_fires.queue(*task, kept_ms=self.settings.overlap_expires_ms + delay_ms)

    def leave(self, task: OpenTask) -> None:
        """Say no more of *task* in this process."""
        self.presence.remove(*task)

    def end(self, task: OpenTask) -> None:
        """Count *task* no longer."""
        self.open_fires.end(*task)


def counting_of(app: Any) -> Counting:
    """Return the counting of *app* in this process, made anew after a fork."""
    pid, counting = vars(app).get("_tw_counting", (0, None))
    if pid != os.getpid():
        counting = Counting(app)
        app._tw_counting = (os.getpid(), counting)
    return counting


def open_task(request: Any) -> OpenTask | None:
    """Return what *request* counts as, or None when it is no task of an entry that may not overlap."""
    facts = vars(request)
    if not facts.get(COUNTED) or facts.get("is_eager"):
        return None
    return OpenTask(str(facts.get(ENTRY)), str(facts.get("id")))


def join(app: Any, headers: dict[str, Any], task_id: str | None, *, countdown: Any, eta: Any) -> str | None:
    """Count a task that is about to be sent, if it belongs to a fire that is counted; return the id that it is to have.

    *headers* are its own, and may get the mark.

    A retry, and a task that replaces the present one, have its id: then the present one's end is not the end of the task.
    """
    if not task_id and not headers.get(COUNTED):
        return task_id
    present = get_current_task()
    here = None if present is None else open_task(present.request)
    if here is not None and here.task_id == task_id:
        headers.update({COUNTED: True, ENTRY: here.name})
        present.request.tw_sent_again = True
    if not headers.get(COUNTED):
        return task_id
    task = OpenTask(str(headers.get(ENTRY)), task_id or uuid())
    _say(app, lambda: counting_of(app).wait(task, delay_ms=_delay_ms(app, countdown, eta)))
    return task.task_id


def _delay_ms(app: Any, countdown: Any, eta: Any) -> int:
    if not countdown and not eta:
        return 0
    now_ms = SystemClock().wall_ms()
    return max(0, due_time_ms(app, countdown=countdown, eta=eta, now_ms=now_ms) - now_ms)


def _say(app: Any, verb: Callable[[], None]) -> None:
    try:
        verb()
    except (CeleryTWError, ImproperlyConfigured) as error:
        logger.warning("a task of an entry that may not overlap is not counted as it should be: %s", error)


@signals.task_prerun.connect(weak=False, dispatch_uid="celery_tw.counting")
def _begins(task: Any = None, **_: Any) -> None:
    opened = open_task(task.request)
    if opened is not None and "timewheel" in vars(task.app):
        _say(task.app, lambda: counting_of(task.app).begin(opened))


@signals.task_postrun.connect(weak=False, dispatch_uid="celery_tw.counting")
def _ends(task: Any = None, retval: Any = None, state: str | None = None, **_: Any) -> None:
    opened = open_task(task.request)
    if opened is None or "timewheel" not in vars(task.app):
        return
    _say(task.app, lambda: _settle(counting_of(task.app), opened, what_follows(task, state, retval)))


def _settle(counting: Counting, opened: OpenTask, follows: str) -> None:
    counting.leave(opened)
    if follows == "nothing":
        counting.end(opened)
    elif follows == "its message":
        counting.wait(opened)


def what_follows(task: Any, state: str | None, retval: Any) -> str:
    """Return what comes after an execution that came to *state*: "nothing", "its message" once more, or what is "known" by now.

    None as the state tells that the process was asked to exit: the parent says what becomes of the task, or its part lapses. A guarded task
    that had no run is a copy of one that runs, or was revoked, which has been told; one that lost its run goes on elsewhere.
    """
    facts = vars(task.request)
    if state is None or state == "RETRY" or facts.get("tw_sent_again"):
        return "known"
    if isinstance(retval, Postponed) or (state == "REJECTED" and getattr(retval, "requeue", False)):
        return "its message"
    if state == "IGNORED" and getattr(task, "tw_guarded", False):
        run = facts.get("tw_run")
        return "known" if run is None or run.state is State.LOST else "nothing"
    return "nothing"


@signals.task_revoked.connect(weak=False, dispatch_uid="celery_tw.counting")
def _is_revoked(sender: Any = None, request: Any = None, **_: Any) -> None:
    """Count a task no longer that is revoked, terminated or has expired."""
    opened = open_task(request)
    if opened is not None and "timewheel" in vars(sender.app):
        _say(sender.app, lambda: counting_of(sender.app).end(opened))


@signals.task_unknown.connect(weak=False, dispatch_uid="celery_tw.counting")
def _is_unknown(sender: Any = None, message: Any = None, id: str | None = None, **_: Any) -> None:  # noqa: A002 - the signal's own word
    """Count a task no longer that its worker does not know, and drops."""
    headers = getattr(message, "headers", None) or {}
    if headers.get(COUNTED) and id and "timewheel" in vars(sender.app):
        _say(sender.app, lambda: counting_of(sender.app).end(OpenTask(str(headers.get(ENTRY)), id)))
