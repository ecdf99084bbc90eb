"""Fallbacks: how often, and why, a task was published although it should have waited: for its time, or in its lane.

Nothing is lost then, but a worker holds the task, or it overtakes others; so somebody should know: each case is counted, and warned of at
most once a minute for each reason.
"""

import logging
from collections import Counter

logger = logging.getLogger(__name__)

WARN_EVERY_MS = 60_000
WITH_ITS_ETA = "went out with Celery's own ETA and waits in a worker"


class Fallbacks:
    """The counts of one process, by reason; *what* says what became of the tasks."""

    def __init__(self, what: str = WITH_ITS_ETA) -> None:
        self.what = what
        self.counts: Counter[str] = Counter()
        self._warned_ms: dict[str, int] = {}

    def record(self, reason: str, *, task: str, why: object, now_ms: int) -> None:
        """Count one task that did not wait, and warn unless that was done within a minute; *now_ms* is of a clock that never steps."""
        self.counts[reason] += 1
        warned_ms = self._warned_ms.get(reason)
        if warned_ms is not None and now_ms - warned_ms < WARN_EVERY_MS:
            return
        self._warned_ms[reason] = now_ms
        logger.warning("%s %s: %s (%d so far)", task, self.what, why, self.counts[reason])
