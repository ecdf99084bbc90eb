"""Carrying: a node's task, from its message to what SQL decides at its end, in the process that runs it.

::

    message ─▶ may this copy start? (SQL) ─▶ body ─▶ Celery keeps the result ─▶ task_postrun ─▶ end (SQL) ─▶ send what it released
                    │                                                                              │
                    └ no: Ignore                                            database away: a message to ourselves says so later

The question is asked by ``task.run``, which is wrapped in each worker: nothing else of Celery's can keep a plain task's body from running.
A process that dies before the end is on record leaves a node that runs and is silent, which the leader queues again.

Nothing here is ever given up: with neither database nor broker the process waits, its task not yet at an end, for one of them.
"""

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from celery import states
from celery.exceptions import Ignore, Reject
from kombu.exceptions import OperationalError

from celery_tw.core.dag_state import NodeState
from celery_tw.core.node_id import NodeId
from celery_tw.dags.pulse import Pulse
from celery_tw.errors import DatabaseUnavailable
from celery_tw.integration.dags.results import failure, success
from celery_tw.integration.runs.postponed import Postponed
from celery_tw.stores.sql.progress import Ended

if TYPE_CHECKING:
    from celery_tw.integration.dags.parts import DagParts

logger = logging.getLogger(__name__)

OURS = "celery_tw.dags."
RESOLVE = "celery_tw.dags.resolve"
REPLACED = "Replaced by new task"
START_PATIENCE_S = 20.0
END_PATIENCE_S = 3.0
AGAIN_S = 0.2


class Refused(Ignore):
    """Raised instead of a body that is not to run: another copy does or did, or the run has no use for it."""


class Carrier:
    """Carries the nodes of one process.

    Two executions may be of one node: a copy of its message, which is refused, or a task's own retry, which can begin in another thread
    before the execution that sent it is over. So what is carried is known by its thread, too.
    """

    def __init__(self, parts: "DagParts") -> None:
        self.parts = parts
        self._carried: set[tuple[int, NodeId]] = set()
        self._lock = threading.Lock()
        self.pulse = Pulse(self._running, parts.progress.beat, interval_s=parts.settings.heartbeat_interval_ms / 1000)

    def _running(self) -> list[NodeId]:
        with self._lock:
            return [node_id for _, node_id in self._carried]

    def carries(self, node_id: NodeId) -> bool:
        """Return whether this process runs that node."""
        return node_id in self._running()

    def carries_here(self, node_id: NodeId) -> bool:
        """Return whether this very thread does."""
        return (threading.get_ident(), node_id) in self._carried

    def call(self, task: Any, node_id: NodeId, body: Callable[[], Any]) -> Any:
        """Run the body of a node's task, if this copy of its message may; raises `Refused`."""
        if not task.name.startswith(OURS) and not self._may_start(task, node_id):
            logger.info("%s[%s] is not run: another copy of it is, or its run has no use for it", task.name, node_id)
            raise Refused("not this copy")
        with self._lock:
            self._carried.add((threading.get_ident(), node_id))
        self.pulse.start()
        return body()

    def _may_start(self, task: Any, node_id: NodeId) -> bool:
        deadline_s = time.monotonic() + START_PATIENCE_S
        alone = getattr(task, "tw_guarded", False)
        while True:
            try:
                now_ms = self.parts.clock.wall_ms()
                return self.parts.progress.start(node_id, retries=task.request.retries or 0, alone=alone, now_ms=now_ms)
            except DatabaseUnavailable as error:
                if time.monotonic() > deadline_s:
                    raise Reject(str(error), requeue=True) from error
                time.sleep(AGAIN_S)

    def end(self, task: Any, node_id: NodeId, state: str | None, retval: Any) -> None:
        """Take what Celery says about the end of a node's task to SQL, and send what follows."""
        began = self.carries_here(node_id)
        with self._lock:
            self._carried.discard((threading.get_ident(), node_id))
        comes_back = state == states.REJECTED and getattr(retval, "requeue", False)
        if state is None or (not began and (state == states.IGNORED or comes_back)):
            return
        if state == states.RETRY:
            self._insist(node_id, lambda: self.parts.progress.wait(node_id, until_ms=self._when_ms(retval)))
        elif comes_back:
            self._insist(node_id, lambda: self.parts.progress.give_back(node_id))
        elif (ended := _ended(state, retval)) is not None:
            self.resolve(node_id, ended)

    def resolve(self, node_id: NodeId, ended: Ended) -> None:
        """Put an end on record, now or, through a message to ourselves, later."""
        if not self._insist(node_id, lambda: self.settle(node_id, ended)):
            self._say_later(node_id, ended)

    def settle(self, node_id: NodeId, ended: Ended) -> None:
        """Put an end on record and send what it released; raises `DatabaseUnavailable`."""
        self.parts.settle(node_id, self.parts.progress.end(node_id, ended, now_ms=self.parts.clock.wall_ms()))

    def _insist(self, node_id: NodeId, verb: Callable[[], None]) -> bool:
        deadline_s = time.monotonic() + END_PATIENCE_S
        while True:
            try:
                verb()
                return True
            except DatabaseUnavailable as error:
                if time.monotonic() > deadline_s:
                    logger.warning("node %s: %s", node_id, error)
                    return False
                time.sleep(AGAIN_S)

    def _say_later(self, node_id: NodeId, ended: Ended) -> None:
        while True:
            try:
                say(self.parts.app, node_id, ended)
                return
            except (OperationalError, OSError) as error:
                logger.error("node %s has ended, and neither the database nor the broker can be told: %s", node_id, error)
            time.sleep(AGAIN_S)
            if self._insist(node_id, lambda: self.settle(node_id, ended)):
                return

    def _when_ms(self, retry: Any) -> int:
        when = getattr(retry, "when", None)
        if isinstance(when, datetime):
            return round(when.timestamp() * 1000)
        return self.parts.clock.wall_ms() + round(1000 * (when or 0))


def _ended(state: str, retval: Any) -> Ended | None:
    """Return how a node ended, None when that is not known yet."""
    if state == states.SUCCESS:
        return success(retval)
    if state != states.IGNORED:
        return failure(retval)
    if isinstance(retval, Postponed):  # it waits for a lock, or goes on in another worker
        return None
    if REPLACED in str(retval):
        return failure("it replaced itself with other tasks, which a node cannot: make the canvas the node", final=True)
    return Ended(NodeState.SKIPPED, error=f"ignored: {retval}" if str(retval) else "ignored")


def say(app: Any, node_id: NodeId, ended: Ended) -> None:
    """Send ourselves the message that a node has ended."""
    facts = {"state": str(ended.state), "result": ended.result, "by_reference": ended.by_reference}
    app.tasks[RESOLVE].apply_async(kwargs={"node": str(node_id), "error": ended.error, "final": ended.final, **facts})
