"""Holding: where an entry waits for its due time: in hand when it is due soon, in the wheel when later."""

from celery_tw.scheduler.gauges import Gauges
from celery_tw.scheduler.horizon import Horizon
from celery_tw.scheduler.upcoming import LOOK_AHEAD_MS, Upcoming


class Holding:
    """Puts entries where they belong, as of the present step."""

    def __init__(self, *, horizon: Horizon, upcoming: Upcoming, gauges: Gauges) -> None:
        self.horizon = horizon
        self.upcoming = upcoming
        self.gauges = gauges

    def hold(self, entry_id: int, due_ms: int) -> None:
        """Keep an entry until *due_ms*."""
        if due_ms <= self.gauges.now_ms + LOOK_AHEAD_MS:
            self.upcoming.add(entry_id, due_ms)
        else:
            self.horizon.hear(entry_id, due_ms)
