"""Announcing: what a worker would have told of a revoked task, told by whoever takes it off the timetable, because no worker will see it.

The result becomes REVOKED, so that nobody waits for it for ever; a chord hears of its part, so that its errbacks run once the others have
returned; and ``task_revoked`` is sent, in this process, where the task is registered. The message is decoded for that as a worker decodes
it, within ``accept_content``. A backend that fails, or a message that this process cannot read, takes nothing back: the tasks are
cancelled, and the log says whose results stay as they were. A backend that failed once is not tried again for the tasks of the same call:
Celery's own retries have cost many seconds by then.

A retry is stored a moment before the run that failed writes RETRY. Cancelled in just that moment, it does not run, and its result says
RETRY: the last one to write wins. A task with one of our bases sets that right when its run ends (``runs/ending.py``).
"""

import logging
from collections.abc import Iterable, Sequence
from threading import Thread
from typing import Any

from celery import signals
from celery.app.task import Context
from kombu import compression, serialization

from celery_tw.integration.runs.kept_results import stores_errors
from celery_tw.stores.redis.envelope import Envelope

logger = logging.getLogger(__name__)

REASON = "revoked"


def announce(app: Any, envelopes: Iterable[Envelope]) -> None:
    """Tell the result backend, the chords and the receivers of ``task_revoked`` that the tasks in *envelopes* will not run."""
    failed: Exception | None = None
    for envelope in envelopes:
        task = app.tasks.get(envelope.headers.get("task"))
        try:
            request = request_of(app, envelope)
        except Exception as error:  # whatever a serializer may raise: other tasks are still to be announced
            _warn(envelope, error)
            continue
        failed = failed or _tell_backend(app, task, request)
        if failed is not None:
            _warn(envelope, failed)
        if task is not None:
            signals.task_revoked.send(sender=task, request=request, terminated=False, signum=None, expired=False)


def announce_beside(app: Any, envelopes: Sequence[Envelope]) -> None:
    """Do as `announce`, in a thread of its own: the caller has other messages to send, whatever the result backend does."""
    Thread(target=announce, args=(app, envelopes), name="tw-announce", daemon=True).start()


def _tell_backend(app: Any, task: Any, request: Context) -> Exception | None:
    """Set the result of the task to REVOKED and count it in its chord; return what the backend raised, if it did."""
    backend = app.backend if task is None else task.backend
    try:
        backend.mark_as_revoked(request.id, REASON, request=request, store_result=stores_errors(app, task, request))
    except Exception as error:  # each backend has errors of its own
        return error
    return None


def _warn(envelope: Envelope, error: Exception) -> None:
    why = f"{type(error).__name__}: {error}"
    logger.warning("task %s was cancelled, but its result could not be set to REVOKED: %s", envelope.task_id, why)


def request_of(app: Any, envelope: Envelope) -> Context:
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
