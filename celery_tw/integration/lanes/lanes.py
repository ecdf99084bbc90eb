"""Lane control: what a person can see of the lanes of fair queues, and do about them: let tasks wait in another lane."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from fnmatch import fnmatchcase
from itertools import chain, islice, product
from typing import Any

from celery_tw.core.lane import LANES, checked_lane
from celery_tw.errors import MalformedRecord, NewerSchema
from celery_tw.integration.lanes.views import LanedTask, LaneView, QueueView, capacities
from celery_tw.integration.moments import from_ms
from celery_tw.settings import Settings
from celery_tw.stores.redis.codec import OneTime, unpack_one_time
from celery_tw.stores.redis.consumers import Consumers
from celery_tw.stores.redis.lanes import Crowd, Lanes, Waits

PAGE = 100
"""Records come back whole, up to 256 KiB each, within the client's time-out."""

MINUTES = 5


@dataclass(frozen=True, slots=True)
class Which:
    """Which tasks are meant: those of a *queue*, a *lane*, a *task* (a name, or a pattern), sent more than *older_than* seconds ago."""

    queue: str | None = None
    lane: str | None = None
    task: str | None = None
    older_than: float | timedelta | None = None


class LaneControl:
    """The verbs, on the lanes of one app's timetable."""

    def __init__(self, settings: Settings, lanes: Lanes, consumers: Consumers, now_ms: Callable[[], int]) -> None:
        self.settings = settings
        self._lanes = lanes
        self._consumers = consumers
        self._now_ms = now_ms

    def stats(self, *, minutes: int = MINUTES) -> Sequence[QueueView]:
        """Return what waits for each fair queue, and the shares of what went on in the last *minutes*."""
        consumers, now_ms = self._consumers.read(), self._now_ms()
        queues = sorted(self.settings.fair_queues | set(self._lanes.queues()))
        return [self._queue(queue, consumers, minutes, now_ms) for queue in queues]

    def list(
        self,
        *,
        queue: str | None = None,
        lane: str | None = None,
        task: str | None = None,
        older_than: float | timedelta | None = None,
        limit: int = 100,
    ) -> Sequence[LanedTask]:
        """Return up to *limit* tasks that wait, lane by lane and the oldest first.

        *task* is a name, or a pattern with ``*`` and ``?``; *older_than* is in seconds.
        """
        found = islice(self._matching(Which(queue, lane, task, older_than)), limit)
        return [self._task(where, each, record) for where, each, record in found]

    def boost(
        self,
        task_id: str | None = None,
        *,
        queue: str | None = None,
        lane: str | None = None,
        task: str | None = None,
        older_than: float | timedelta | None = None,
        to: str = "high",
        limit: int | None = None,
    ) -> int:
        """Let tasks wait in the lane *to*, as if they had been sent in it; return how many do so now.

        Name one by its id, or those that match all of the others, the oldest of a lane first and at most *limit*. The time since they were
        sent counts on. Raises `InvalidLane` for what is no lane, and TypeError when nothing says which tasks are meant.
        """
        to = checked_lane(to)
        chosen: dict[str, list[int]] = {}
        for where, each in self._meant(task_id, Which(queue, lane, task, older_than), to, limit):
            chosen.setdefault(where, []).append(each.entry_id)
        return sum(self._lanes.boost(where, entry_ids, to=to) for where, entry_ids in chosen.items())

    def count(self, which: Which, *, leave_out: str | None = None) -> int:
        """Return how many tasks match *which*, without those of the lane *leave_out*."""
        return sum(1 for _ in self._matching(which, leave_out=leave_out))

    def _meant(self, task_id: str | None, which: Which, to: str, limit: int | None) -> Iterator[tuple[str, Waits]]:
        if task_id is not None:
            for queue in self._queues(which.queue):
                yield from ((queue, each) for each in self._lanes.under_task(queue, task_id))
        elif which == Which():
            raise TypeError("boost takes the id of a task, or says which are meant: queue, lane, task, older_than")
        else:
            yield from ((queue, each) for queue, each, _ in islice(self._matching(which, leave_out=to), limit))

    # Reading

    def _queue(self, queue: str, consumers: Mapping[str, Mapping[str, Any]], minutes: int, now_ms: int) -> QueueView:
        admitted = self._lanes.admitted(queue, minutes=minutes, now_ms=now_ms)
        starving = self._lanes.count(queue, until_ms=now_ms - self.settings.starvation_alert_ms)
        workers, capacity = capacities(consumers, queue)
        asked = dict(zip(LANES, self.settings.lane_shares, strict=True))
        views = [_lane(crowd, admitted, starving[crowd.lane], asked[crowd.lane], now_ms) for crowd in self._lanes.crowds(queue)]
        return QueueView(queue=queue, fair=queue in self.settings.fair_queues, workers=workers, capacity=capacity, lanes=tuple(views))

    def _matching(self, which: Which, *, leave_out: str | None = None) -> Iterator[tuple[str, Waits, OneTime]]:
        lanes = [lane for lane in (LANES if which.lane is None else (checked_lane(which.lane),)) if lane != leave_out]
        until_ms = None if which.older_than is None else self._now_ms() - _ms(which.older_than)
        for queue, lane in product(self._queues(which.queue), lanes):
            for each in chain.from_iterable(self._lanes.pages(queue, lane, limit=PAGE, until_ms=until_ms)):
                record = _record(each)
                if record is not None and (which.task is None or fnmatchcase(str(record.extra.get("task")), which.task)):
                    yield queue, each, record

    def _queues(self, queue: str | None) -> Sequence[str]:
        return self._lanes.queues() if queue is None else [queue]

    def _task(self, queue: str, each: Waits, record: OneTime) -> LanedTask:
        waited_ms = self._now_ms() - each.since_ms
        return LanedTask(
            task_id=record.task_id,
            task=str(record.extra.get("task", "")),
            queue=queue,
            lane=each.lane,
            counts_as=self._counts_as(each.lane, waited_ms),
            since=from_ms(each.since_ms),
            waited=waited_ms / 1000,
        )

    def _counts_as(self, lane: str, waited_ms: int) -> str:
        if waited_ms > self.settings.aging_medium_to_high_ms:
            return "high"
        return "medium" if lane == "low" and waited_ms > self.settings.aging_low_to_medium_ms else lane


def _lane(crowd: Crowd, admitted: Mapping[str, int], starving: int, asked: int, now_ms: int) -> LaneView:
    total = sum(admitted.values())
    return LaneView(
        lane=crowd.lane,
        waiting=crowd.waiting,
        oldest=None if crowd.oldest_ms is None else max(0, now_ms - crowd.oldest_ms) / 1000,
        starving=starving,
        admitted=admitted[crowd.lane],
        share=100 * admitted[crowd.lane] / total if total else None,
        asked=asked,
    )


def _record(each: Waits) -> OneTime | None:
    """Return the task that waits; None when it has gone on meanwhile, or cannot be read."""
    try:
        return unpack_one_time(each.record) if each.record else None
    except (MalformedRecord, NewerSchema):
        return None


def _ms(age: float | timedelta) -> int:
    return round((age.total_seconds() if isinstance(age, timedelta) else age) * 1000)
