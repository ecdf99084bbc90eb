"""Watching: where a worker hears that a node's task has ended.

Celery sends ``task_postrun`` in the process that ran the task, whatever came of it. What happens to a task without such a process, or to
one that has lost it, is heard in the worker's main process: revoked, expired, killed, over its hard limit. There nothing may wait for a
database, so a message to ourselves is sent, which any worker takes to SQL.

A task with one of our bases is finished in ``task_postrun``, too, and must not be before its node's end is known: who dies in between would
leave a node whose task does not run again. Receivers are called in the order in which they were connected, so these are, with the
time wheel, before those of ``runs/task.py``.
"""

import logging
from collections.abc import Callable
from typing import Any

from celery import signals

from celery_tw.core.node_id import MEMBER, NodeId
from celery_tw.integration.dags.parts import has_database, parts_of

logger = logging.getLogger(__name__)


@signals.task_prerun.connect(weak=False, dispatch_uid="celery_tw.dags.members")
def _member_begins(task: Any = None, **_: Any) -> None:
    _of_member(task, lambda members, node_id: members.begin(node_id))


@signals.task_postrun.connect(weak=False, dispatch_uid="celery_tw.dags.members")
def _member_ends(task: Any = None, **_: Any) -> None:
    _of_member(task, lambda members, node_id: members.end(node_id))


def _of_member(task: Any, say: Callable[[Any, NodeId], None]) -> None:
    if not vars(task.request).get(MEMBER) or task.request.is_eager or not has_database(task.app):
        return
    node_id = NodeId.parse(vars(task.request)[MEMBER])
    try:
        if node_id is not None:
            say(parts_of(task.app).members, node_id)
    except Exception:  # its node can be spoken for by others
        logger.exception("a task of the node %s could not say that it runs", node_id)


@signals.task_postrun.connect(weak=False, dispatch_uid="celery_tw.dags")
def _ended(sender: Any = None, task_id: Any = None, task: Any = None, retval: Any = None, state: str | None = None, **_: Any) -> None:
    node_id = NodeId.parse(task_id)
    if node_id is None or task is None or task.request.is_eager or not has_database(task.app):
        return
    try:
        parts_of(task.app).carrier.end(task, node_id, state, retval)
    except Exception:
        logger.exception("node %s has ended, which could not be put on record: it is left to the leader", node_id)


@signals.task_failure.connect(weak=False, dispatch_uid="celery_tw.dags")
def _failed(sender: Any = None, task_id: Any = None, exception: Any = None, **_: Any) -> None:
    node_id = _elsewhere(sender, task_id)
    if node_id is not None:
        from celery_tw.integration.dags.results import failure  # noqa: PLC0415 - only who uses DAGs has SQLAlchemy

        _say(sender.app, node_id, failure(exception))


@signals.task_revoked.connect(weak=False, dispatch_uid="celery_tw.dags")
def _revoked(sender: Any = None, request: Any = None, expired: bool = False, **_: Any) -> None:
    task_id = getattr(request, "id", None)
    node_id = NodeId.parse(task_id)
    if node_id is None or sender is None or not has_database(sender.app):
        return
    from celery_tw.integration.dags.results import failure  # noqa: PLC0415

    ended = failure("expired" if expired else "revoked", final=True)
    if _elsewhere(sender, task_id) is None:
        parts_of(sender.app).carrier.resolve(node_id, ended)
    else:
        _say(sender.app, node_id, ended)


def _elsewhere(task: Any, task_id: Any) -> NodeId | None:
    """Return the node, unless this very process runs it, and will hear of its end by ``task_postrun``."""
    node_id = NodeId.parse(task_id)
    if node_id is None or task is None or not has_database(task.app):
        return None
    parts = vars(task.app).get("_tw_dags", (0, None))[1]
    carries = parts is not None and "carrier" in vars(parts) and parts.carrier.carries(node_id)
    return None if carries else node_id


def _say(app: Any, node_id: NodeId, ended: Any) -> None:
    from celery_tw.integration.dags.carrying import say  # noqa: PLC0415

    try:
        say(app, node_id, ended)
    except Exception as error:  # the worker's main process goes on, and the leader will look
        logger.warning("node %s has ended, which nobody could be told: %s", node_id, error)
