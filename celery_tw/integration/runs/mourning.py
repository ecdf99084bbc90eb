"""Mourning: makes known that a task was lost too often and fails.

The leader does so for a long task, because no worker is left to say so; a worker does for a task that its broker brings once more. The
result becomes FAILURE with a `WorkerLostError`, errbacks are called and the chord is told, as Celery would have done.
"""

import logging
from typing import Any

from billiard.exceptions import WorkerLostError
from celery import signals

from celery_tw import events
from celery_tw.errors import MalformedRecord
from celery_tw.integration.cancellation.announcing import request_of
from celery_tw.integration.runs.kept_results import stores_errors
from celery_tw.runtime.run import Run
from celery_tw.stores.redis.envelope import read_envelope
from celery_tw.stores.redis.runs.record import Record

logger = logging.getLogger(__name__)


def mourn(app: Any, record: Record) -> None:
    """Set the result of the task whose run *record* was to FAILURE; what goes wrong is logged, for the run has ended."""
    error = WorkerLostError(f"its processes were lost {record.losses + 1} times without a new checkpoint")
    task = app.tasks.get(record.task)
    backend = app.backend if task is None else task.backend
    try:
        request = request_of(app, read_envelope(record.envelope or b""))
        backend.mark_as_failure(record.task_id, error, request=request)
    except MalformedRecord as malformed:
        logger.error("%s[%s] failed, and nobody can be told: %s", record.task, record.task_id, malformed)
        return
    except Exception:  # each backend, and each serializer, has errors of its own
        logger.exception("%s[%s] failed, and its result could not be set", record.task, record.task_id)
        return
    if task is not None:
        facts = {"task_id": record.task_id, "exception": error, "args": request.args, "kwargs": request.kwargs}
        signals.task_failure.send(sender=task, traceback=None, einfo=None, **facts)


def mourn_here(task: Any, run: Run) -> None:
    """Set the result of the present request of *task* to FAILURE; raised, Celery would take the error for another loss."""
    error, request = WorkerLostError(f"its processes were lost {run.losses} times"), task.request
    task.backend.mark_as_failure(run.task_id, error, request=request, store_result=stores_errors(task.app, task, request))
    facts = {"task_id": run.task_id, "exception": error, "args": request.args, "kwargs": request.kwargs}
    signals.task_failure.send(sender=task, traceback=None, einfo=None, **facts)
    events.run_given_up.send(sender=task, mid=run.mid, task=run.task, task_id=run.task_id, losses=run.losses)
    logger.error("%s[%s] was lost %d times and fails", run.task, run.task_id, run.losses)
