"""Asking: the tasks of a worker ask, before their bodies, whether a node may run; see ``carrying.py``."""

from functools import wraps
from typing import Any

from celery import bootsteps

from celery_tw.core.node_id import NodeId
from celery_tw.integration.dags.parts import has_database, parts_of


class CarryNodes(bootsteps.Step):
    """Lets the tasks of a worker ask, before their bodies, whether a node may run."""

    def create(self, worker: Any) -> None:
        if has_database(worker.app):
            for task in worker.app.tasks.values():
                wrap(task)


def wrap(task: Any) -> None:
    """Let ``task.run`` ask first, when its request is a node's; doing it twice is doing it once."""
    run = task.run
    if getattr(run, "tw_asks", False):
        return

    @wraps(run)
    def asking(*args: Any, **kwargs: Any) -> Any:
        request = task.request
        node_id = NodeId.parse(request.id)
        if node_id is None or request.called_directly or request.is_eager:
            return run(*args, **kwargs)
        carrier = parts_of(task.app).carrier
        if carrier.carries_here(node_id):  # the body calls itself
            return run(*args, **kwargs)
        return carrier.call(task, node_id, lambda: run(*args, **kwargs))

    asking.tw_asks = True  # type: ignore[attr-defined]
    task.run = asking
