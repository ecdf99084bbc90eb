"""Presence: keeps the running tasks of entries that may not overlap counted, as long as this process lives.

One daemon thread a process, started with the first such task, so after a fork. What it fails to say in time lapses in Redis: a slot may
then go out beside a task that still runs, and the log has said that Redis was away.
"""

import logging
import threading

from celery_tw.errors import CeleryTWError
from celery_tw.stores.redis.open_fires import OpenFires

logger = logging.getLogger(__name__)


class Presence:
    """Says every *interval_ms* that the tasks added here still run; each time it counts for *kept_ms*."""

    def __init__(self, open_fires: OpenFires, *, interval_ms: int, kept_ms: int) -> None:
        self._open_fires = open_fires
        self._interval_s = interval_ms / 1000
        self._kept_ms = kept_ms
        self._live: set[tuple[str, str]] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._away = False

    def add(self, name: str, task_id: str) -> None:
        """Keep a task of the entry *name* counted from now on."""
        with self._lock:
            self._live.add((name, task_id))
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="tw-presence", daemon=True)
                self._thread.start()

    def remove(self, name: str, task_id: str) -> None:
        """Keep a task no longer."""
        with self._lock:
            self._live.discard((name, task_id))

    def _loop(self) -> None:
        pause = threading.Event()
        while not pause.wait(self._interval_s):
            self.step()

    def step(self) -> None:
        """Say that all of them still run."""
        with self._lock:
            live = list(self._live)
        try:
            self._open_fires.keep(live, kept_ms=self._kept_ms)
            self._away = False
        except CeleryTWError as error:
            if not self._away:
                logger.warning("%d task(s) of entries that may not overlap are not counted on until Redis is back: %s", len(live), error)
            self._away = True
