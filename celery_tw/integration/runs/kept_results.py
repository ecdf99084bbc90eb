"""Kept results: whether a task's result is stored, by its message, its class or the settings, in this order."""

from typing import Any


def ignores_result(app: Any, task: Any, request: Any) -> bool:
    """Return whether no result is kept; *task* is None for one that is not registered here. Newer versions of Celery reckon so too."""
    said = vars(request).get("ignore_result")
    if said is None:
        said = app.conf.task_ignore_result if task is None else task.ignore_result
    return bool(said)


def stores_errors(app: Any, task: Any, request: Any) -> bool:
    """Return whether a failure, or a revocation, is stored as the result."""
    kept = app.conf.task_store_errors_even_if_ignored if task is None else task.store_errors_even_if_ignored
    return bool(kept or not ignores_result(app, task, request))
