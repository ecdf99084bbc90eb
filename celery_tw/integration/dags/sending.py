"""Sending: from a released node to its message, or messages.

A node's task id says which node it is, and so do three headers, for those who look at messages. A node that is a canvas, or that fans out
over a list, ends with a task of ours, which has the node's id: ``canvas | collect``. Its parts have ids of Celery's own, so a canvas cannot
be sent in part again; once sent it counts as running for as long as its parts show that they run, and ``tw_dag_canvas_timeout`` more.

A node that is to be sent later (``retry_delay``) stays in SQL until then: a message to ourselves waits in the timetable, or as Celery's
ETA, and lets it go. The run may have been paused or cancelled meanwhile.

What cannot be sent is no error of the sender: the node fails, with the reason.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from celery.canvas import Signature, chord, group
from kombu.exceptions import OperationalError
from kombu.utils.json import loads

from celery_tw.clock import Clock
from celery_tw.core.node_id import NodeId
from celery_tw.errors import CeleryTWError
from celery_tw.integration.dags.members import mark_members
from celery_tw.integration.dags.results import ResultGone, failure, success, value_of
from celery_tw.stores.sql.locked_run import Released
from celery_tw.stores.sql.progress import Ended, Progress, Settled

logger = logging.getLogger(__name__)

COLLECT = "celery_tw.dags.collect"
FAIL = "celery_tw.dags.fail"
LET_GO = "celery_tw.dags.let_go"
RUN, NODE, ATTEMPT = "tw_dag_run", "tw_dag_node", "tw_dag_attempt"
LONGEST_LIST = 10_000


class Sending:
    """Sends released nodes; *tell* hears of each end that comes of it."""

    def __init__(self, app: Any, progress: Progress, clock: Clock, *, patience_ms: int, tell: Callable[[NodeId, Settled], None]) -> None:
        self.app = app
        self.progress = progress
        self.clock = clock
        self.patience_ms = patience_ms
        self.tell = tell

    def send(self, released: Iterable[Released]) -> None:
        """Send nodes, and whatever is released by those that end at once; when the broker is away, the leader will send them."""
        waiting = deque(released)
        while waiting:
            each = waiting.popleft()
            try:
                ended = self._send(each)
            except (OperationalError, OSError) as error:
                left = len(waiting)
                logger.warning(
                    "node %r of the run %s, and %d more, are left to the leader to be sent: %s", each.key, each.id.run_id, left, error
                )
                return
            if ended is not None:
                settled = self.progress.end(each.id, ended, now_ms=self.clock.wall_ms())
                self.tell(each.id, settled)
                waiting.extend(settled.released)

    def _send(self, released: Released) -> Ended | None:
        """Send one node; return its end, if it ends with that."""
        if released.due_ms is not None and released.due_ms > self.clock.wall_ms():
            self._send_later(released.id, released.due_ms)
            return None
        try:
            args = [value_of(given, self.app) for given in released.args_from]
            items = None if released.for_each is None else _checked_list(released, value_of(released.for_each, self.app))
            signature = Signature.from_dict(loads(released.signature), app=self.app)
            if items == []:
                return success([])
            if items is None and not signature.get("subtask_type"):
                self._send_task(released, signature, args)
            else:
                self._send_canvas(released, signature, args, items)
        except (OperationalError, OSError):
            raise
        except (ResultGone, NotAList) as error:
            return failure(str(error), final=True)
        except Exception as error:  # serializers, routers and signal receivers have errors of their own
            logger.exception("node %r of the run %s could not be sent", released.key, released.id.run_id)
            return failure(f"it could not be sent: {error!r}")
        return None

    def _send_later(self, node_id: NodeId, due_ms: int) -> None:
        self.app.tasks[LET_GO].apply_async(kwargs={"node": str(node_id)}, eta=datetime.fromtimestamp(due_ms / 1000, UTC))

    def _send_task(self, released: Released, signature: Any, args: list[Any]) -> None:
        headers = {**(signature.options.get("headers") or {}), **headers_of(released.id, released.key)}
        signature.apply_async(args=tuple(args), task_id=str(released.id), headers=headers)

    def _send_canvas(self, released: Released, signature: Any, args: list[Any], items: list[Any] | None) -> None:
        if items is not None:
            signature, args = group([signature.clone(args=(item, *args)) for item in items], app=self.app), []
        mark_members(signature, released.id)
        last = self.app.signature(COLLECT, options={"task_id": str(released.id), "headers": headers_of(released.id, released.key)})
        whole = signature | last
        listening = whole.body if isinstance(whole, chord) else whole  # the failure of a header is told to the body
        listening.on_error(self.app.signature(FAIL, kwargs={"node": str(released.id)}))
        whole.apply_async(args=tuple(args))
        self.progress.start(released.id, retries=0, alone=False, now_ms=self.clock.wall_ms())
        self.progress.wait(released.id, until_ms=self.clock.wall_ms() + self.patience_ms)


class NotAList(CeleryTWError):
    """Raised when a node is to fan out over what is no list, or too long a one."""


def headers_of(node_id: NodeId, key: str) -> dict[str, Any]:
    """Return what a node's message says of it."""
    return {RUN: node_id.run_id, NODE: key, ATTEMPT: node_id.attempt}


def _checked_list(released: Released, value: Any) -> list[Any]:
    key = released.for_each.key if released.for_each else ""
    if not isinstance(value, list | tuple):
        raise NotAList(f"it fans out over the result of {key!r}, which is no list but {type(value).__name__}")
    if len(value) > LONGEST_LIST:
        raise NotAList(f"it fans out over at most {LONGEST_LIST:,} elements; the result of {key!r} has {len(value):,}")
    return list(value)
