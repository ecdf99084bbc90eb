"""Watchdog: tells a stuck loop from a process that was suspended.

Both leave a loop without progress for a long time. But a suspended process does not look either: so what counts is the time that passed
between looks, at most `LONGEST_LOOK_MS` for each, while the loop stood still.
"""

from celery_tw.scheduler.loops import Loop

LONGEST_LOOK_MS = 1000


class Watchdog:
    """Looks after *loops*: none may stand still for *limit_ms* of watched time."""

    def __init__(self, loops: tuple[Loop, ...], *, limit_ms: int, boot_ms: int) -> None:
        self.loops = loops
        self.limit_ms = limit_ms
        self._looked_ms = boot_ms
        self._still_ms = {loop.name: 0 for loop in loops}
        self._progress = {loop.name: loop.progress for loop in loops}

    def stuck(self, boot_ms: int) -> Loop | None:
        """Take a look at boot time *boot_ms*; return a loop that has stood still for too long, or None."""
        passed_ms = min(boot_ms - self._looked_ms, LONGEST_LOOK_MS)
        self._looked_ms = boot_ms
        for loop in self.loops:
            moved = loop.progress != self._progress[loop.name]
            self._progress[loop.name] = loop.progress
            self._still_ms[loop.name] = 0 if moved else self._still_ms[loop.name] + passed_ms
            if self._still_ms[loop.name] > self.limit_ms:
                return loop
        return None
