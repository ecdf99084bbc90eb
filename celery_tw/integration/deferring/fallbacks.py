"""Fallbacks: how often, and why, a task went out with Celery's own ETA although it should have waited in the timetable.

Nothing is lost then, but a worker holds the task, so somebody should know: each case is counted, and warned of at most once a minute for
each reason.
"""

import logging
from collections import Counter

logger = logging.getLogger(__name__)

WARN_EVERY_MS = 60_000


class Fallbacks:
    """The counts of one process, by reason; see `Deferral`."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._warned_ms: dict[str, int] = {}

    def record(self, reason: str, *, task: str, why: object, now_ms: int) -> None:
        """Count one task that was not deferred, and warn unless that was done within a minute; *now_ms* is of a clock that never steps."""
        self.counts[reason] += 1
        warned_ms = self._warned_ms.get(reason)
        if warned_ms is not None and now_ms - warned_ms < WARN_EVERY_MS:
            return
        self._warned_ms[reason] = now_ms
        logger.warning("%s went out with Celery's own ETA and waits in a worker: %s (%d so far)", task, why, self.counts[reason])
