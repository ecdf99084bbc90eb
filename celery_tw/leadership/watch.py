"""Watch: a stand-by's judgement of the leader, by the counter alone."""

from celery_tw.stores.redis.election import Held


class Watch:
    """How long the counter of the present term has stood still, on the watcher's own boot clock."""

    def __init__(self) -> None:
        self._held: Held | None = None
        self._since_ms = 0

    def restart(self) -> None:
        """Forget what was seen: after a reconnect, silence so far may have been our own."""
        self._held = None

    def still_for_ms(self, held: Held, *, boot_ms: int) -> int:
        """Take a new reading and return for how many ms the counter has not moved."""
        last = self._held
        if last is None or (last.epoch, last.counter) != (held.epoch, held.counter):
            self._held, self._since_ms = held, boot_ms
        return boot_ms - self._since_ms
