"""Sends: what a send needs beyond Celery's own: a mid that a repeated send repeats, a number in its order, a key that it alone has.

A run that is carried out twice, because its process died before it had passed its result on, sends its chain twice. Those sends have the
same mid, made from the run's own, so the second copy finds that the first has run. A retry keeps the id of its run: the same holds for it.

Redis may be away where a task is sent. Then the number is drawn when the task arrives, and what is unique is sent and warned of.
"""

import logging
from collections.abc import Mapping
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from celery._state import get_current_task

from celery_tw.core.identity import random_id
from celery_tw.core.node_id import NodeId, mid_of_send
from celery_tw.errors import CeleryTWError, ImproperlyConfigured
from celery_tw.integration.messages.identity_headers import AFTER, SNOOZES
from celery_tw.integration.runs.outcomes import Retries
from celery_tw.integration.runs.run_headers import header_of
from celery_tw.integration.runs.runner import runner_of
from celery_tw.runtime.run import Run, State
from celery_tw.runtime.unique import CLAIM_MS

logger = logging.getLogger(__name__)


def mint(task_id: str | None, *, retries: int = 0, snoozes: int = 0) -> str:
    """Return the mid of a send that is about to be made."""
    if not task_id:
        return random_id()
    if NodeId.parse(task_id) is not None:
        return mid_of_send(task_id, retries, snoozes)
    run = present_run()
    if run is not None and (run.state is State.RAN or task_id == run.task_id):
        return str(uuid5(NAMESPACE_OID, f"{run.mid}:{task_id}:{retries}"))
    return random_id()


def present_run() -> Run | None:
    """Return the run that this thread carries out, or None."""
    task = get_current_task()
    return None if task is None else vars(task.request).get("tw_run")


def draw_number(task: Any, mid: str, args: Any, kwargs: Any, *, task_id: str | None, later: bool) -> None:
    """Give a send its number in its order, if it has one; a *later* send has it when it arrives, but for a run's own retry."""
    if not getattr(task, "tw_guarded", False) or task.ordering_key is None:
        return
    run = present_run()
    before = run.mid if run is not None and task_id == run.task_id else ""
    if later and not before:
        return
    try:
        key = task.guarding.ordering_key(tuple(args or ()), dict(kwargs or {}))
        runner_of(task.app).runs.sends.draw_number(key, mid, before=before)
    except TypeError:  # the arguments do not fit; Celery says so where the task arrives
        return
    except (CeleryTWError, ImproperlyConfigured) as error:
        logger.warning("%s is sent without a number in its order, which it draws when it arrives: %s", task.name, error)


def claim_unique(task: Any, key: str, task_id: str, *, part_of_canvas: bool) -> str:
    """Return the id of the task that has *key*: *task_id* if it is to be sent, as parts of a canvas always are, for others wait."""
    try:
        holder = runner_of(task.app).runs.sends.claim_unique(key, task_id, kept_ms=CLAIM_MS)
    except (CeleryTWError, ImproperlyConfigured) as error:
        logger.warning("%s is sent without knowing whether it is unique: %s", task.name, error)
        return task_id
    return task_id if part_of_canvas else holder


def give_back_unique(task: Any, key: str, task_id: str) -> None:
    """Give *key* back for a task that could not be sent."""
    try:
        runner_of(task.app).runs.sends.give_back_unique(key, task_id)
    except CeleryTWError as error:
        logger.warning("%s could not be sent, and its key is kept until it expires: %s", task.name, error)


def write_down_retry(task: Any, args: Any, kwargs: Any, task_id: str | None, options: dict[str, Any]) -> bool:
    """Put a run's own retry, or its being put off, on record before it is sent, so that one of the two is done whenever the process dies.

    The retry says in *options* after which run it comes. Return False when the run is another process's by now, whose retry it is to send;
    any other send is none of this.
    """
    run = present_run()
    if run is None or task_id != run.task_id or not _comes_after(options, task.request):
        return True
    options["headers"] = {**(options.get("headers") or {}), AFTER: run.mid}
    return runner_of(task.app).execution.write_down_retry(task, run, Retries(task_id, args, kwargs, dict(options)))


def snoozes_of(headers: Mapping[str, Any] | None) -> int:
    """Return how often the task of a message with these *headers* has put itself off."""
    return int((headers or {}).get(SNOOZES) or 0)


def _comes_after(options: Mapping[str, Any], request: Any) -> bool:
    """Return whether a send with these *options* follows on *request*, as its retry or because it puts itself off."""
    present = (request.retries or 0, int(header_of(request, SNOOZES) or 0))
    return (options.get("retries") or 0, snoozes_of(options.get("headers"))) > present


def long_queue(task: Any, args: Any, kwargs: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the queue of a long task for which nobody has named one."""
    app = task.app
    queue = app.conf.get("tw_long_queue")
    named = any(options.get(name) or getattr(task, name, None) for name in ("queue", "exchange", "routing_key"))
    if not queue or named or app.amqp.router.lookup_route(task.name, args, kwargs, dict(options), task):
        return {}
    return {"queue": queue}
