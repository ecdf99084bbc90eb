"""Refusals: messages that a worker's main process takes off the queue and gives to no task.

Celery itself rejects, and says so in a signal, a task that it does not know and a message whose content type it does not accept; what it
cannot decode it drops, and a body that is not ``[args, kwargs, embed]`` ends the whole worker. So each message is looked at before Celery
does, which costs little, because what is decoded here is not decoded again.

Whoever waits for the task is told that it has failed, and so is its chord, as far as the message can be read.
"""

import logging
from collections.abc import Hashable, Mapping
from typing import Any

from celery import bootsteps, signals
from celery.app.task import Context
from celery.exceptions import NotRegistered
from celery.utils.saferepr import saferepr

from celery_tw.core.death import DISALLOWED, MALFORMED, REDELIVERED, UNDECODABLE, UNREGISTERED
from celery_tw.errors import CeleryTWError, MalformedMessage, RedeliveredTooOften
from celery_tw.integration.cancellation.announcing import request_of
from celery_tw.integration.dlq.burying import Burying
from celery_tw.integration.dlq.coverage import keeps_refused
from celery_tw.integration.dlq.deaths import death_of, mid_of_headers
from celery_tw.integration.dlq.failures import safely
from celery_tw.integration.dlq.flaws import flaw_of, flaw_of_times
from celery_tw.integration.dlq.poison import starts_of_poison
from celery_tw.integration.dlq.remains import received
from celery_tw.integration.runs.kept_results import stores_errors
from celery_tw.integration.runs.received import envelope_of_message
from celery_tw.stores.redis.envelope import read_envelope
from celery_tw.stores.redis.runs.right import Right

logger = logging.getLogger(__name__)


SHOWN = 1000
SPOILS_A_WORKER = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What Celery raises over a message whose headers are none of its own, such as a time limit that is a text."""


class KeepRefusals(bootsteps.Step):
    """Lets a consumer bury what it cannot give to a task, and live."""

    def __init__(self, consumer: Any, **_: Any) -> None:
        app, on_decode_error, create = consumer.app, consumer.on_decode_error, consumer.create_task_handler

        def keep_and_drop(message: Any, error: Exception) -> Any:
            keep(app, consumer, message, error, UNDECODABLE)
            return on_decode_error(message, error)

        def create_task_handler(*args: Any, **options: Any) -> Any:
            handle = create(*args, **options)

            def on_task_received(message: Any) -> Any:
                if not _is_kept_back(app, consumer, message):
                    try:
                        return handle(message)
                    except SPOILS_A_WORKER as error:
                        if message.acknowledged:
                            raise
                        _let_go(message)
                        keep(app, consumer, message, error, MALFORMED)
                message.reject_log_error(logger, consumer.connection_errors)
                return None

            return on_task_received

        consumer.on_decode_error, consumer.create_task_handler = keep_and_drop, create_task_handler


def _let_go(message: Any) -> None:
    """Let the worker have no request of a message any more that it could not hand to its pool."""
    from celery.worker.state import task_ready  # noqa: PLC0415 - only a worker has it

    task_id = _task_id_of(message)
    request = received(task_id) if isinstance(task_id, Hashable) else None
    if request is not None and request.message is message:
        task_ready(request)


def _task_id_of(message: Any) -> Any:
    """Return the id in the headers of a message, or in its body, where the first protocol has it; None when there is none."""
    task_id = (message.headers or {}).get("id")
    if task_id is None and isinstance(message.payload, Mapping):
        return message.payload.get("id")
    return task_id


@signals.task_unknown.connect(weak=False, dispatch_uid="celery_tw.dlq")
def _is_unknown(sender: Any = None, message: Any = None, name: Any = None, **_: Any) -> None:
    keep(sender.app, sender, message, NotRegistered(name), UNREGISTERED)


@signals.task_rejected.connect(weak=False, dispatch_uid="celery_tw.dlq")
def _is_rejected(sender: Any = None, message: Any = None, exc: Any = None, **_: Any) -> None:
    keep(sender.app, sender, message, exc or MalformedMessage("its headers name no task"), DISALLOWED)


def keep(app: Any, consumer: Any, message: Any, error: Exception, reason: str) -> None:
    """Bury a message for which there is no task, and tell who waits for it."""
    safely(app, lambda burying: _bury(burying, consumer, message, error, reason))


def _bury(burying: Burying, consumer: Any, message: Any, error: Exception, reason: str, *, attempts: int = 1) -> None:
    headers = message.headers if isinstance(message.headers, Mapping) else {}
    task = _task_of(burying.app, headers)
    _end_what_waits(burying, mid_of_headers(headers))
    if not keeps_refused(burying.settings.dlq, task):
        logger.error("a message that no task can have is dropped (%s: %s): %s", reason, error, saferepr(message.body, SHOWN))
        return
    raw, info = envelope_of_message(message), message.delivery_info or {}
    request = _request(burying.app, raw, headers)
    death = death_of(
        error,
        headers=headers,
        queue=str(info.get("exchange") or info.get("routing_key") or ""),
        worker=str(consumer.hostname),
        reason=reason,
        chord=request.chord,
        attempts=attempts,
    )
    burying.bury(raw, death)
    _tell(burying.app, task, request, error, reason)


def _end_what_waits(burying: Burying, mid: str) -> None:
    """End the run that no process has and whose message is refused, or the leader would send it once more."""
    try:
        waiting = [record for record in burying.runs.under_way.read([mid]) if not record.counter]
        for record in waiting:
            burying.runs.finish(Right.of_bystander(), "failed", mid=mid, task_id=record.task_id, guards=record.guards)
    except CeleryTWError as error:
        logger.warning("the run %s, whose message is refused, was not ended: %s", mid, error)


def _request(app: Any, raw: bytes, headers: Mapping[str, Any]) -> Context:
    """Return the request that the message would be, as far as it can be read."""
    try:
        return request_of(app, read_envelope(raw))
    except Exception:  # whatever a serializer may raise, or what it gives may be
        return Context(dict(headers))


def _tell(app: Any, task: Any, request: Context, error: Exception, reason: str) -> None:
    """Set the result of the task to FAILURE, and count it in its chord; for a task that is not known Celery has done the first."""
    if not request.id or (reason == UNREGISTERED and not request.chord):
        return
    try:
        (task or app).backend.mark_as_failure(request.id, error, request=request, store_result=stores_errors(app, task, request))
    except Exception:  # each backend has errors of its own
        logger.exception("%s[%s] is a dead letter, and its result could not be set", request.task, request.id)


def _task_of(app: Any, headers: Mapping[str, Any]) -> Any:
    name = headers.get("task")
    return app.tasks.get(name) if isinstance(name, str) else None


# Before Celery looks


def _is_kept_back(app: Any, consumer: Any, message: Any) -> bool:
    """Return whether the message was buried in the place of being handed to Celery."""
    if (flaw := flaw_of(message) or flaw_of_times(message, app)) is not None:
        keep(app, consumer, message, MalformedMessage(flaw), MALFORMED)
        return True
    if not (message.delivery_info or {}).get("redelivered") or not isinstance(message.headers, Mapping):
        return False
    buried: list[bool] = []
    safely(app, lambda burying: buried.append(_bury_poison(burying, consumer, message)))
    return any(buried)


def _bury_poison(burying: Burying, consumer: Any, message: Any) -> bool:
    """Bury a message that has been started too often, and end its run; return whether it was one."""
    headers, task = message.headers, _task_of(burying.app, message.headers)
    starts = starts_of_poison(burying, task, headers)
    if not starts:
        return False
    error = RedeliveredTooOften(f"its message came back after it had been started {starts} times, and its worker was gone")
    _bury(burying, consumer, message, error, REDELIVERED, attempts=starts)
    if getattr(task, "tw_guarded", False):
        from celery_tw.integration.runs.run_request import end_run  # noqa: PLC0415 - it takes the worker with it, which a client has no need of

        end_run(task, _request(burying.app, envelope_of_message(message), headers), "failed")
    return True
