"""Failures: where a worker hears that a task has failed for good, and buries it.

===========================================  ==================================================================
signal                                       what it tells
===========================================  ==================================================================
``task_failure`` where the task ran          an exception after the last retry, a soft time limit
``task_failure`` in the main process         a hard time limit (twice), a lost process, a rejected message
``task_postrun`` where the task ran          a rejected message, which older versions of Celery say nothing else of
``task_internal_error`` where the task ran   a failure that the result backend did not take
``task_unknown``, ``task_rejected``          a message that no task here takes (``refusals.py``)
===========================================  ==================================================================

A receiver never raises. A revoked or cancelled task sends none of these.
"""

import logging
from collections.abc import Callable
from typing import Any

from celery import signals
from celery.app.task import Context
from celery.exceptions import Reject

from celery_tw.errors import CeleryTWError
from celery_tw.integration.dlq.burying import Burying, burying_of
from celery_tw.integration.dlq.coverage import covers, is_expected
from celery_tw.integration.dlq.deaths import death_of, mid_of_headers
from celery_tw.integration.dlq.remains import headers_of, message_of, received, remember, write_down

logger = logging.getLogger(__name__)


def has_wheel(app: Any) -> bool:
    """Return whether *app* is one of ours."""
    return app is not None and "timewheel" in vars(app)


def safely(app: Any, verb: Callable[[Burying], None]) -> None:
    """Let *verb* work with what buries tasks of *app*; what goes wrong is logged."""
    if not has_wheel(app):
        return
    try:
        burying = burying_of(app)
        if burying is not None:
            verb(burying)
    except Exception:  # the worker goes on
        logger.exception("what is known of a task, or of its death, could not be kept")


@signals.task_received.connect(weak=False, dispatch_uid="celery_tw.dlq")
def _is_received(sender: Any = None, request: Any = None, **_: Any) -> None:
    if request is not None and has_wheel(request.app):
        remember(request)


@signals.task_prerun.connect(weak=False, dispatch_uid="celery_tw.dlq")
def _begins(task: Any = None, **_: Any) -> None:
    request = task.request
    if not request.is_eager:
        safely(task.app, lambda burying: _prepare(burying, task, request))


def _prepare(burying: Burying, task: Any, request: Any) -> None:
    """Write down what the body may change; count it, if it has begun before and its message came back. A guarded task counts its runs."""
    if not covers(burying.settings.dlq, task, vars(request)):
        return
    write_down(task, request)
    mid = mid_of_headers(vars(request))
    if mid and not getattr(task, "tw_guarded", False) and (request.delivery_info or {}).get("redelivered"):
        try:
            burying.letters.count_redelivery(mid)
        except CeleryTWError as error:
            logger.warning("%s[%s] began once more, which was not counted: %s", task.name, request.id, error)


@signals.task_failure.connect(weak=False, dispatch_uid="celery_tw.dlq")
def _has_failed(sender: Any = None, task_id: Any = None, exception: Any = None, einfo: Any = None, **_: Any) -> None:
    safely(getattr(sender, "app", None), lambda burying: bury_failure(burying, sender, task_id, exception, einfo))


@signals.task_internal_error.connect(weak=False, dispatch_uid="celery_tw.dlq")
def _has_failed_inside(sender: Any = None, request: Any = None, exception: Any = None, einfo: Any = None, **_: Any) -> None:
    context = Context(dict(request or {}))
    if not context.is_eager and context.id:
        safely(getattr(sender, "app", None), lambda burying: bury_request(burying, sender, context, exception, einfo))


@signals.task_postrun.connect(weak=False, dispatch_uid="celery_tw.dlq")
def _has_ended(task: Any = None, retval: Any = None, state: str | None = None, **_: Any) -> None:
    if state == "REJECTED" and isinstance(retval, Reject) and not retval.requeue and not task.request.is_eager:
        safely(task.app, lambda burying: bury_request(burying, task, task.request, retval, None))


def bury_failure(burying: Burying, task: Any, task_id: Any, exception: Any, einfo: Any) -> None:
    """Bury a task whose request this process has; of any other nothing is known here."""
    context = task.request
    if context.id != task_id or context.called_directly or context.is_eager:
        raw = received(task_id)
        if raw is None or raw.app is not task.app or raw.task.name != task.name:
            return
        context = raw._context
    bury_request(burying, task, context, getattr(exception, "exc", None) or exception, einfo)


def bury_request(burying: Burying, task: Any, context: Any, exception: Any, einfo: Any) -> None:
    """Bury the task of a request, unless its failure is one that is not kept."""
    headers = headers_of(context)
    if not covers(burying.settings.dlq, task, headers) or is_expected(task, exception):
        return
    run, info = vars(context).get("tw_run"), context.delivery_info or {}
    death = death_of(
        exception,
        headers={**headers, "id": context.id, "task": headers.get("task") or task.name},
        queue=info.get("exchange") or info.get("routing_key") or "",
        worker=str(context.hostname or ""),
        traceback=str(getattr(einfo, "traceback", None) or ""),
        chord=context.chord,
        token="" if run is None else run.token,
    )
    burying.bury(message_of(task, context), death)
