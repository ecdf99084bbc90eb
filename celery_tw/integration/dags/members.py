"""Members: the tasks inside of a node that is a canvas, or that fans out, say that the node is alive.

Their messages carry the node's id in a header, which their retries keep. A process that runs some says so for their node when one begins,
and every ``tw_heartbeat_interval`` as long as one runs; each time the leader's patience with the node (``tw_dag_canvas_timeout``) begins
anew. What waits in a queue says nothing, so that patience has to be longer than queues are.
"""

import logging
import threading
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from celery_tw.clock import Clock
from celery_tw.core.node_id import MEMBER, NodeId
from celery_tw.dags.pulse import Pulse
from celery_tw.stores.sql.progress import Progress

logger = logging.getLogger(__name__)

MADE_OF_OTHERS = ("chain", "group", "chord")


class Members:
    """Speaks for the nodes whose members this process runs."""

    def __init__(self, progress: Progress, clock: Clock, *, interval_ms: int, patience_ms: int) -> None:
        self._progress = progress
        self._clock = clock
        self._interval_ms = interval_ms
        self._patience_ms = patience_ms
        self._lock = threading.Lock()
        self._running: Counter[NodeId] = Counter()
        self._said_ms: dict[NodeId, int] = {}
        self.pulse = Pulse(self._nodes, self._say, interval_s=interval_ms / 1000)

    def begin(self, node_id: NodeId) -> None:
        """Speak for a node, one more of whose members runs."""
        now_ms = self._clock.boot_ms()
        with self._lock:
            self._running[node_id] += 1
            self._said_ms = {each: at_ms for each, at_ms in self._said_ms.items() if now_ms - at_ms < self._interval_ms}
            silent = node_id not in self._said_ms
        self.pulse.start()
        if silent:
            self.pulse.say([node_id])

    def end(self, node_id: NodeId) -> None:
        """Note that one of a node's members runs no more."""
        with self._lock:
            self._running[node_id] -= 1
            self._running += Counter()  # which drops what is not above nought

    def _nodes(self) -> list[NodeId]:
        with self._lock:
            return list(self._running)

    def _say(self, ids: Collection[NodeId]) -> None:
        self._progress.wait_on(ids, until_ms=self._clock.wall_ms() + self._patience_ms)
        with self._lock:
            self._said_ms |= dict.fromkeys(ids, self._clock.boot_ms())


def mark_members(signature: Any, node_id: NodeId) -> None:
    """Let each task in *signature*, a canvas in its plain form, say which node it is a part of."""
    if isinstance(signature, Mapping):
        if "subtask_type" in signature and signature["subtask_type"] not in MADE_OF_OTHERS:
            options = signature["options"]
            options["headers"] = {**(options.get("headers") or {}), MEMBER: str(node_id)}
        for value in signature.values():
            mark_members(value, node_id)
    elif isinstance(signature, list | tuple):
        for value in signature:
            mark_members(value, node_id)
