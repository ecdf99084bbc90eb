"""Loops: the threads around the step functions, and what their supervisor can see of them.

A loop calls its step, waits as long as the step asked or until it is woken, and goes on. An error of the store is logged once per outage
and the step is tried again after a short pause; any other error ends the loop, and the supervisor ends the process, because a scheduler
that half works is worse than one that is restarted.
"""

import logging
import threading
from collections.abc import Callable

from celery_tw.errors import CeleryTWError, ImproperlyConfigured, StoreRefused, StoreUnavailable

logger = logging.getLogger(__name__)

RETRY_S = 0.2


class Loop:
    """One daemon thread that repeats *step*, which returns in how many ms it wants to be called again."""

    def __init__(self, name: str, step: Callable[[], int]) -> None:
        self.name = name
        self.step = step
        self.error: BaseException | None = None
        self.progress = 0
        self._away = False
        self._stop = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Cut the present wait short."""
        self._wake.set()

    def stop(self) -> None:
        """Ask the loop to end after the present step."""
        self._stop = True
        self._wake.set()

    def join(self, timeout_s: float) -> None:
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    def runs(self) -> bool:
        """Return whether the thread has not ended yet."""
        return self._thread.is_alive()

    def goes_on(self) -> bool:
        """Make progress, in a step that waits for others; return whether the step should wait on."""
        self.make_progress()
        return not self._stop

    def make_progress(self) -> None:
        """Tell whoever watches that the loop is not stuck; a long step says so along the way."""
        self.progress += 1

    def _run(self) -> None:
        try:
            while not self._stop:
                self._wait(self._step_or_retry())
        except BaseException as error:  # the supervisor raises it again in the main thread
            self.error = error
            if not isinstance(error, (CeleryTWError, ImproperlyConfigured)):  # those are the supervisor's to report, in one line
                logger.critical("%s ended: %s", self.name, error, exc_info=True)

    def _step_or_retry(self) -> float:
        try:
            wait_s = self.step() / 1000
        except (StoreUnavailable, StoreRefused) as error:
            wait_s = RETRY_S
            if not self._away:
                logger.error("%s waits for Redis: %s", self.name, error)
            self._away = True
        else:
            if self._away:
                logger.info("%s: Redis is back", self.name)
            self._away = False
        self.make_progress()
        return wait_s

    def _wait(self, wait_s: float) -> None:
        if wait_s > 0:
            self._wake.wait(wait_s)
        self._wake.clear()
