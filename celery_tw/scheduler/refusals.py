"""Refusals: what cannot be fired now, or ever, and how that is told.

An entry that Redis or this process cannot fire is kept back for `REFUSED_WAIT_MS`, its slot undecided; one that can never be fired as it
is stored goes to quarantine. Neither holds up another entry.
"""

import logging

from celery_tw.events import entry_quarantined, fire_refused
from celery_tw.scheduler.gauges import Gauges
from celery_tw.scheduler.upcoming import Upcoming
from celery_tw.stores.redis.dispatching import Dispatching
from celery_tw.stores.redis.timetable import Stored

logger = logging.getLogger(__name__)

REFUSED_WAIT_MS = 5000


class Refusals:
    """Keeps back and sets aside, under the present term's *epoch*."""

    def __init__(self, *, dispatching: Dispatching, upcoming: Upcoming, gauges: Gauges) -> None:
        self.dispatching = dispatching
        self.upcoming = upcoming
        self.gauges = gauges
        self.epoch = 0

    def keep_back(self, name: str, *, entry_id: int, due_ms: int, slot_ms: int, reason: str) -> None:
        """Try an entry again later; its slot stays undecided."""
        if entry_id not in self.upcoming:
            self.upcoming.add(entry_id, due_ms, wake_ms=max(due_ms, self.gauges.now_ms) + REFUSED_WAIT_MS)
        self.tell_of(name, entry_id=entry_id, slot_ms=slot_ms, reason=reason)

    def tell_of(self, name: str, *, entry_id: int, slot_ms: int, reason: str) -> None:
        """Count and tell of something that is kept back."""
        self.gauges.refused += 1
        logger.error("%s was not fired, and is tried again in %d s: %s", name, REFUSED_WAIT_MS // 1000, reason)
        fire_refused.send(sender=self, name=name, entry_id=entry_id, slot_ms=slot_ms, reason=reason)

    def unable(self, stored: Stored, name: str, reason: str) -> None:
        """Keep an entry back that this process cannot fire: its code lacks what the entry needs."""
        due_ms = stored.due_ms or self.gauges.now_ms
        self.keep_back(name, entry_id=stored.entry_id, due_ms=due_ms, slot_ms=stored.mark_ms, reason=reason)

    def quarantine(self, entry_id: int, reason: str) -> None:
        """Set an entry aside that can never be fired as it is stored."""
        self.quarantine_member(str(entry_id).encode(), reason)

    def quarantine_member(self, member: bytes, reason: str = "the timetable holds a member that is no entry id") -> None:
        """Set whatever the timetable holds under *member* aside."""
        text = member.decode(errors="backslashreplace")
        self.dispatching.quarantine(self.epoch, member, reason)
        logger.error("entry %s is in quarantine: %s", text, reason)
        entry_quarantined.send(sender=self, entry_id=text, reason=reason)
