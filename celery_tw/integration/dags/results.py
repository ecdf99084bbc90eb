"""Results: how a node's result is kept for its children and for people: in SQL when it is JSON and small, else in the result backend.

A result that is kept by reference is only as durable as the backend: ``result_expires`` runs, and a child that comes to ask for it too
late fails as *lost*, and says whose result is gone.
"""

import logging
from typing import Any

from celery import states
from kombu.utils.json import dumps, loads

from celery_tw.core.dag_state import NodeState
from celery_tw.errors import CeleryTWError
from celery_tw.stores.sql.locked_run import Given
from celery_tw.stores.sql.progress import Ended

logger = logging.getLogger(__name__)

LARGEST_RESULT = 256 * 1024
LONGEST_ERROR = 2000


class ResultGone(CeleryTWError):
    """Raised when the result of a node is in no store any more."""

    def __init__(self, key: str) -> None:
        super().__init__(f"lost: the result of {key!r} was too large, or no JSON, and the result backend has it no longer")


def success(result: Any) -> Ended:
    """Return the end of a node whose task returned *result*."""
    try:
        text = dumps(result)
    except (TypeError, ValueError, RecursionError):
        return Ended(NodeState.SUCCEEDED, by_reference=True)
    kept = len(text) <= LARGEST_RESULT
    return Ended(NodeState.SUCCEEDED, text if kept else None, by_reference=not kept)


def failure(error: Any, *, final: bool = False) -> Ended:
    """Return the end of a node that failed with *error*."""
    return Ended(NodeState.FAILED, error=(error if isinstance(error, str) else repr(error))[:LONGEST_ERROR], final=final)


def value_of(given: Given, app: Any) -> Any:
    """Return the result of a node; None for one that has none. Raises `ResultGone`."""
    if not given.by_reference:
        return None if given.value is None else loads(given.value)
    result = app.AsyncResult(given.task_id)
    if result.state != states.SUCCESS:
        raise ResultGone(given.key)
    return result.result


def end_in_backend(task_id: str, app: Any) -> Ended | None:
    """Return how a task ended by what the result backend knows, None when that is nothing."""
    try:
        result = app.AsyncResult(task_id)
        state, value = result.state, result.result
    except Exception as error:  # each backend has errors of its own, and some have no results to give
        logger.debug("the result backend does not tell of %s: %s", task_id, error)
        return None
    if state == states.SUCCESS:
        return success(value)
    if state in (states.FAILURE, states.REVOKED):
        return failure(value, final=state == states.REVOKED)
    return None
