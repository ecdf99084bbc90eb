"""Circuit breaker: after the store did not answer, nobody asks it again for a while.

::

    closed ──fail──▶ open for 5 s ──time passes──▶ one probe ──succeed──▶ closed
                          ▲                            │
                          └───── twice as long, up to 60 s ◀──fail──┘

So a web process that sends a hundred ETAs while Redis is away pays for one time-out, not for a hundred. The probe is whoever asks first
after the time has passed; everyone else is turned away for another such time, or until the probe succeeds.
"""

import threading

FIRST_MS = 5000
LONGEST_MS = 60_000


class CircuitBreaker:
    """One process's opinion of the store; for any of its threads."""

    def __init__(self, *, first_ms: int = FIRST_MS, longest_ms: int = LONGEST_MS) -> None:
        self._first_ms = first_ms
        self._longest_ms = longest_ms
        self._lock = threading.Lock()
        self._open_ms = 0
        self._opened_ms = 0

    def would_allow(self, now_ms: int) -> bool:
        """Return what `allows` would, and leave the probe to whoever asks the store."""
        return not self._open_ms or now_ms - self._opened_ms >= self._open_ms

    def allows(self, now_ms: int) -> bool:
        """Return whether the store may be asked at *now_ms*, on a clock that never steps; the caller then asks it."""
        if not self._open_ms:
            return True
        with self._lock:
            if not self.would_allow(now_ms):
                return False
            self._opened_ms = now_ms
            return True

    def succeed(self) -> None:
        """Note that the store has answered."""
        self._open_ms = 0

    def fail(self, now_ms: int) -> None:
        """Note that the store has not answered."""
        with self._lock:
            self._open_ms = min(2 * self._open_ms, self._longest_ms) or self._first_ms
            self._opened_ms = now_ms
