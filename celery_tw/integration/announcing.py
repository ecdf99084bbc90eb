"""Announcing: what a worker would have told of a revoked task, told by whoever takes it off the timetable, because no worker will see it.

The result becomes REVOKED, so that nobody waits for it for ever; a chord hears of its part, so that its errbacks run once the others have
returned; and ``task_revoked`` is sent, in this process, where the task is registered. The message is decoded for that as a worker decodes
it, within ``accept_content``. A backend that does not answer, or a message that this process cannot read, takes nothing back: the task is
cancelled, and the log says who was not told.
"""

import logging
from typing import Any

from celery import signals
from celery.app.task import Context
from kombu import compression, serialization

from celery_tw.stores.redis.envelope import Envelope

logger = logging.getLogger(__name__)

REASON = "revoked"


def announce(app: Any, envelope: Envelope) -> None:
    """Tell the result backend, the chord and the receivers of ``task_revoked`` that the task in *envelope* will not run."""
    task = app.tasks.get(envelope.headers.get("task"))
    backend = app.backend if task is None else task.backend
    try:
        request = _request(app, envelope)
        backend.mark_as_revoked(request.id, REASON, request=request, store_result=_stores_errors(app, task, request))
    except Exception:  # whatever a backend or a serializer may raise: the task is off the timetable, and other tasks are to be announced
        logger.warning("task %s was cancelled, but its result could not be set to REVOKED", envelope.task_id, exc_info=True)
        return
    if task is not None:
        signals.task_revoked.send(sender=task, request=request, terminated=False, signum=None, expired=False)


def _request(app: Any, envelope: Envelope) -> Context:
    """Return the request that a worker would make of the message."""
    body = envelope.body
    if method := envelope.headers.get("compression"):
        body = compression.decompress(body, method)
    accept = serialization.prepare_accept_content(app.conf.accept_content)
    args, kwargs, embed = serialization.loads(body, envelope.content_type, envelope.content_encoding, accept=accept)
    return Context(
        {
            **envelope.headers,
            "args": args,
            "kwargs": kwargs,
            "properties": dict(envelope.properties),
            "reply_to": envelope.properties.get("reply_to"),
            "correlation_id": envelope.properties.get("correlation_id"),
            "delivery_info": {"exchange": envelope.exchange, "routing_key": envelope.routing_key},
            **(embed or {}),
        }
    )


def _stores_errors(app: Any, task: Any, request: Context) -> bool:
    """Return whether the result of the task is kept when it fails, by its message, its class or the settings, in this order."""
    ignored = request.ignore_result
    if ignored is None:
        ignored = app.conf.task_ignore_result if task is None else task.ignore_result
    kept = app.conf.task_store_errors_even_if_ignored if task is None else task.store_errors_even_if_ignored
    return bool(not ignored or kept)
