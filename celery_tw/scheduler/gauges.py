"""Gauges: what the leader counts, for people and metrics."""

from collections import deque
from dataclasses import dataclass, field

KEPT = 1000


@dataclass(slots=True)
class Gauges:
    """Counters since this process began to lead, and the lateness in ms of the last fires."""

    now_ms: int = 0
    fired: int = 0
    skipped: int = 0
    refused: int = 0
    admitted: int = 0
    starving: int = 0
    lateness_ms: deque[int] = field(default_factory=lambda: deque(maxlen=KEPT))

    def count_fire(self, late_ms: int) -> None:
        """Count one fire, *late_ms* after it was due."""
        self.fired += 1
        self.lateness_ms.append(late_ms)
