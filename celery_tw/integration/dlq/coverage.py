"""Coverage: whose final failures become dead letters.

``tw_dlq`` is ``guarded`` (tasks with one of our bases, nodes of DAGs, and all that the time wheel fired), ``all`` or ``off``. A task with
``dlq = True`` does so unless the setting is ``off``; with ``dlq = False`` it never does, nor does an exception that it lists in ``throws``.
A message that the worker cannot give to any task is kept unless the setting is ``off``: nothing else would keep it.
"""

from collections.abc import Mapping
from typing import Any

from celery_tw.core.node_id import NodeId
from celery_tw.integration.messages.identity_headers import ETA, GENERATION, SEQUENCE, SLOT

OF_A_FIRE = (SEQUENCE, SLOT, ETA, GENERATION)


def covers(setting: str, task: Any, headers: Mapping[str, Any]) -> bool:
    """Return whether a final failure of *task* (None when it is not known here), sent with *headers*, becomes a dead letter."""
    asked = getattr(task, "dlq", None)
    if setting == "off" or asked is False:
        return False
    if asked is True or setting == "all" or task is None or getattr(task, "tw_guarded", False):
        return True
    return NodeId.parse(headers.get("id")) is not None or any(headers.get(name) is not None for name in OF_A_FIRE)


def keeps_refused(setting: str, task: Any) -> bool:
    """Return whether a message that the worker cannot give to *task* (None for one not known here) becomes a dead letter."""
    return setting != "off" and getattr(task, "dlq", True) is not False


def is_expected(task: Any, exception: BaseException | None) -> bool:
    """Return whether the task says that it may raise *exception*."""
    throws: Any = getattr(task, "throws", None) or ()
    return isinstance(exception, tuple(throws) if isinstance(throws, list | set) else throws)
