"""Kept results: whether a task's result is stored, by its message, its class or the settings, in this order.

A Celery before 5.7 stores a result only if neither the message nor the task says that it is ignored.
"""

from typing import Any

import celery
from celery import signals

_MESSAGE_DECIDES = celery.VERSION[:2] >= (5, 7)
_STORED = "tw_ignored_before"


def ignores_result(app: Any, task: Any, request: Any) -> bool:
    """Return whether no result is kept; *task* is None for one that is not registered here."""
    said = vars(request).get("ignore_result")
    if said is None or not (said or _MESSAGE_DECIDES):
        said = app.conf.task_ignore_result if task is None else task.ignore_result
    return bool(said)


def stores_errors(app: Any, task: Any, request: Any) -> bool:
    """Return whether a failure, or a revocation, is stored as the result."""
    kept = app.conf.task_store_errors_even_if_ignored if task is None else task.store_errors_even_if_ignored
    return bool(kept or not ignores_result(app, task, request))


def keep_from_storing(request: Any) -> None:
    """Let Celery not store the result of *request*, which is stored already; what its task sends after that is not concerned."""
    setattr(request, _STORED, vars(request).get("ignore_result"))
    request.ignore_result = True


@signals.task_success.connect(weak=False, dispatch_uid="celery_tw.kept_results")
def _forget(sender: Any = None, **_: Any) -> None:
    facts = vars(getattr(sender, "request", None) or object)
    if _STORED in facts:
        sender.request.ignore_result = facts[_STORED]
