"""Pulse: one thread in each process that runs nodes says, every ``tw_heartbeat_interval``, that all of them are running still.

It is made with the first node, so after a fork. A database that is away costs beats, no node: the leader, which cannot look either, counts
silence anew when it is back.
"""

import logging
import threading
from collections.abc import Callable, Collection

from celery_tw.core.node_id import NodeId
from celery_tw.errors import CeleryTWError

logger = logging.getLogger(__name__)


class Pulse:
    """Beats for the nodes in *running*, as long as there are any."""

    def __init__(self, running: Callable[[], Collection[NodeId]], beat: Callable[[Collection[NodeId]], None], *, interval_s: float) -> None:
        self._running = running
        self._beat = beat
        self._interval_s = interval_s
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def start(self) -> None:
        """Begin, unless begun."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="tw-dag-pulse", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """End the thread, and wait for it."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _loop(self) -> None:
        while not self._stop.wait(self._interval_s):
            self.step()

    def step(self) -> None:
        """Beat once."""
        running = self._running()
        if running:
            self.say(running)

    def say(self, running: Collection[NodeId]) -> None:
        """Beat for those nodes now."""
        try:
            self._beat(running)
        except CeleryTWError as error:
            logger.warning("no heartbeat for %d nodes: %s", len(running), error)
        except Exception:  # whatever it is, the next beat is not to suffer from it
            logger.exception("the heartbeat of nodes failed and goes on")
