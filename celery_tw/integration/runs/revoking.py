"""Revoking: a task that is not run, or not to its end, says so as a revoked one does."""

from typing import Any

from celery import signals

from celery_tw.integration.runs.kept_results import stores_errors


def revoke(task: Any, reason: str) -> None:
    """Make the result of the present request REVOKED, and tell its chord and whoever listens."""
    request = task.request
    task.backend.mark_as_revoked(request.id, reason, request=request, store_result=stores_errors(task.app, task, request))
    signals.task_revoked.send(sender=task, request=request, terminated=False, signum=None, expired=False)
