"""Looking after: the leader's sweeper, made for one app."""

from collections.abc import Callable
from typing import Any

from celery_tw.dags.sweeper import Sweeper
from celery_tw.integration.dags.parts import parts_of
from celery_tw.integration.dags.results import end_in_backend
from celery_tw.leadership.elector import Elector

NEVER = 1_000_000
"""A long task is given up by the reaper, who knows whether its checkpoint advances."""


def sweeper_of(app: Any, elector: Elector, *, go_on: Callable[[], bool]) -> Sweeper:
    """Return the sweeper of the app's DAGs; it connects with its first look."""
    parts = parts_of(app)
    return Sweeper(
        sweeping=lambda: parts.sweeping,
        progress=lambda: parts.progress,
        elector=elector,
        clock=parts.clock,
        timeout_ms=parts.settings.heartbeat_timeout_ms,
        most=lambda task: NEVER if getattr(app.tasks.get(task), "long", False) else parts.settings.max_reassignments,
        expires_ms=parts.settings.dag_expires_ms,
        end_of=lambda task_id: end_in_backend(task_id, app),
        settle=parts.settle,
        follow=parts.open_runs.follow_all,
        counted_ms=parts.settings.overlap_expires_ms,
        go_on=go_on,
    )
