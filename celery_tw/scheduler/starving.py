"""Starving: tells people of each message that waits in a lane for longer than it should, once.

How far has been told stands in Redis, per queue, and is moved on before the signals go out. So no change of leaders tells anything twice;
one that dies right then leaves some messages unsaid, which count as starving in the statistics all the same.
"""

import logging
from collections.abc import Iterable, Sequence

from celery_tw.clock import RedisTime
from celery_tw.errors import MalformedRecord, NewerSchema, StaleEpoch
from celery_tw.events import task_starving
from celery_tw.leadership.elector import Elector
from celery_tw.scheduler.gauges import Gauges
from celery_tw.stores.redis.admitting import Admitting
from celery_tw.stores.redis.codec import unpack_one_time
from celery_tw.stores.redis.lanes import Waits

logger = logging.getLogger(__name__)

LOOK_MS = 1000
STAND_BY_MS = 1000
PAGE = 100
"""Of each lane; their records come back whole, up to 256 KiB each, within the client's time-out."""

LINES_A_MINUTE = 20


class Starving:
    """Looks for messages older than *limit_ms* while *elector* leads, in the lanes of all queues."""

    def __init__(self, *, admitting: Admitting, elector: Elector, redis_time: RedisTime, gauges: Gauges, limit_ms: int) -> None:
        self.admitting = admitting
        self.elector = elector
        self.redis_time = redis_time
        self.gauges = gauges
        self.limit_ms = limit_ms
        self._minute = 0
        self._lines = 0
        self._unlogged = 0

    def step(self) -> int:
        """Look once; return in how many ms to call again."""
        term = self.elector.trusted_term()
        if term is None:
            return STAND_BY_MS
        now_ms = self.redis_time.now_ms()
        try:
            full = [self._report(term.epoch, queue, now_ms) for queue in self.admitting.lanes.queues()]
        except StaleEpoch as error:
            logger.info("what waits too long is another leader's to tell: %s", error)
            return STAND_BY_MS
        self._turn_minute(now_ms)
        return 0 if any(full) else LOOK_MS

    def _report(self, epoch: int, queue: str, now_ms: int) -> bool:
        """Report a page of the starving messages of *queue*, oldest first; return whether there may be more."""
        reported_ms, until_ms = self.admitting.reported_until(queue), now_ms - self.limit_ms
        if reported_ms is not None and reported_ms >= until_ms:
            return False
        found = self.admitting.came_between(queue, after_ms=reported_ms, until_ms=until_ms, limit=PAGE)
        if not found:
            return False
        cut_ms = _cut_ms(found)
        if cut_ms is not None:
            until_ms = cut_ms
            found = self.admitting.came_between(queue, after_ms=reported_ms, until_ms=until_ms)
        records = self.admitting.lanes.read(found)
        if self.admitting.report(epoch, queue, from_ms=reported_ms, to_ms=until_ms):
            for message in sorted(records, key=lambda message: message.since_ms):
                self._tell(queue, message, now_ms)
        return cut_ms is not None

    def _tell(self, queue: str, message: Waits, now_ms: int) -> None:
        self.gauges.starving += 1
        waited_ms = now_ms - message.since_ms
        task_id, task = _names(message)
        self._log(task, task_id, queue, message.lane, waited_ms, now_ms)
        task_starving.send(sender=self, task_id=task_id, task=task, queue=queue, lane=message.lane, waited_ms=waited_ms)

    def _log(self, task: str, task_id: str, queue: str, lane: str, waited_ms: int, now_ms: int) -> None:
        self._turn_minute(now_ms)
        self._lines += 1
        if self._lines <= LINES_A_MINUTE:
            logger.warning("%s[%s] has waited %d s in the lane %s of %s", task, task_id, waited_ms // 1000, lane, queue)
        else:
            self._unlogged += 1

    def _turn_minute(self, now_ms: int) -> None:
        """Begin a new minute's lines, and tell how many of the last one's were kept back."""
        if now_ms // 60_000 == self._minute:
            return
        if self._unlogged:
            logger.warning("%d more messages have waited too long in their lanes", self._unlogged)
        self._minute, self._lines, self._unlogged = now_ms // 60_000, 0, 0


def _cut_ms(found: Sequence[Waits]) -> int | None:
    """Return until when all of every lane was found, None when no lane's page was full."""
    ends = [page[-1].since_ms for page in _by_lane(found) if len(page) >= PAGE]
    return min(ends, default=None)


def _by_lane(found: Sequence[Waits]) -> Iterable[list[Waits]]:
    pages: dict[str, list[Waits]] = {}
    for message in found:
        pages.setdefault(message.lane, []).append(message)
    return pages.values()


def _names(message: Waits) -> tuple[str, str]:
    """Return a message's task id and task, '' for what its record does not tell."""
    try:
        record = unpack_one_time(message.record)
    except (MalformedRecord, NewerSchema):
        return "", ""
    return record.task_id, str(record.extra.get("task", ""))
