"""Superseded: what a later fire has taken the place of is asked to stop: tasks, and the runs of DAGs, which are cancelled."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from celery_tw.core.dag_state import RunState
from celery_tw.errors import CeleryTWError, InvalidDag, UnknownDagRun
from celery_tw.integration.dags.open_runs import run_marked
from celery_tw.integration.dags.parts import has_database, parts_of

logger = logging.getLogger(__name__)


def stop(app: Any, entry: str, task_ids: Sequence[str], *, stop_tasks: Callable[[Sequence[str]], None]) -> None:
    """Stop what earlier fires of *entry* have left, *task_ids* as they are counted; *stop_tasks* is for those that are tasks."""
    runs = [run_id for run_id in map(run_marked, task_ids) if run_id is not None]
    tasks = [task_id for task_id in task_ids if run_marked(task_id) is None]
    if tasks:
        stop_tasks(tasks)
    for run_id in runs:
        if has_database(app):
            _cancel(app, entry, run_id)


def _cancel(app: Any, entry: str, run_id: str) -> None:
    from celery_tw.integration.dags.dags import Dags  # noqa: PLC0415 - only who uses DAGs has SQLAlchemy

    try:
        Dags(app).cancel(run_id)
    except (InvalidDag, UnknownDagRun):  # it has ended, perhaps long ago
        parts_of(app).open_runs.follow(entry, run_id, RunState.CANCELLED)
    except CeleryTWError as error:
        logger.warning("entry %s: its earlier run %s is cancelled at its next slot: %s", entry, run_id, error)
