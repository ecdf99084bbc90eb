"""Canvas ids: the tasks of a canvas get ids that follow from the fire, so that rendering it twice makes the same messages.

A canvas is a tree. Each node has a position (``0``, ``0.1``, ``0.body`` …), and its id is uuid5(fire id, position);
Celery keeps an id that a signature has already. Leaves also carry the headers of the fire, with their own id as
``tw_mid``: each is a send of its own. Headers written on a group, chain or chord move down to its leaves, where they
would otherwise replace those.

Only the id of a group that is the header of a chord *within* another canvas stays Celery's own: Celery makes that group anew
when it applies the canvas. It names no task, and all messages of a fire are enqueued together or not at all.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any
from uuid import UUID, uuid5

from celery.canvas import Signature, _chain, _chord, group, maybe_signature

Headers = Mapping[str, Any]


def frozen_canvas(stored: Mapping[str, Any], *, app: Any, fire_id: str, headers: Headers) -> Signature:
    """Return a signature of the *stored* canvas, its ids fixed for this fire; *stored* itself is left alone."""
    canvas = maybe_signature(deepcopy(dict(stored)), app=app)
    return _Freezing(UUID(fire_id), app).freeze(canvas, "0", headers)


class _Freezing:
    def __init__(self, fire_id: UUID, app: Any) -> None:
        self._fire_id = fire_id
        self._app = app

    def freeze(self, node: Any, position: str, headers: Headers) -> Signature:
        """Return *node* with the ids of all its tasks set."""
        node = maybe_signature(node, app=self._app)
        headers = {**headers, **(node.options.pop("headers", None) or {})}
        node.options.pop("task_id", None)
        if isinstance(node, group):
            return self._group(node, position, headers)
        if isinstance(node, _chain):
            return self._chain(node, position, headers)
        if isinstance(node, _chord):
            return self._chord(node, position, headers)
        return self._leaf(node, position, headers)

    def _leaf(self, task: Signature, position: str, headers: Headers) -> Signature:
        task_id = self._id(position)
        task.options.update(task_id=task_id, headers={**headers, "tw_mid": task_id})
        return task

    def _group(self, node: group, position: str, headers: Headers) -> group:
        node.options["task_id"] = self._id(position)
        node.tasks = self._children(node.tasks, position, headers)
        return node

    def _chain(self, node: _chain, position: str, headers: Headers) -> _chain:
        node.tasks = self._children(node.tasks, position, headers)
        return node

    def _chord(self, node: _chord, position: str, headers: Headers) -> _chord:
        header = node.tasks if isinstance(node.tasks, group) else group(node.tasks, app=self._app)
        node.tasks = self.freeze(header, f"{position}.header", headers)
        node.body = self.freeze(node.body, f"{position}.body", headers)
        return node

    def _children(self, tasks: Any, position: str, headers: Headers) -> list[Signature]:
        return [self.freeze(task, f"{position}.{index}", headers) for index, task in enumerate(tasks)]

    def _id(self, position: str) -> str:
        return str(uuid5(self._fire_id, position))
