"""Measuring: how full the fair queues are, and so how much room they have.

A queue is kept at about `FULLNESS` times what its consumers run at once, or at what they empty in `BRIDGED_MS` if that is more: long
enough that none of them waits for the leader, short enough that what comes later, and is more urgent, is not far behind. How much the
consumers run, they say themselves (``announcing.py``); a queue of which none has said so is taken to have ``tw_fair_capacity``.

While something waits, each queue is measured again before its consumers can have emptied half of it, as fast as they were seen to be, at
most every `FASTEST_MS`. With nothing waiting it is enough to renew what producers may send straight on.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celery_tw.clock import Clock
from celery_tw.errors import BrokerUnavailable, StaleEpoch
from celery_tw.events import fair_queue_unconsumed
from celery_tw.leadership.elector import Elector
from celery_tw.leadership.roster import Roster
from celery_tw.scheduler.ports import QueueLengths
from celery_tw.scheduler.rooms import Rooms
from celery_tw.stores.redis.admitting import Admitting, Stand
from celery_tw.stores.redis.consumers import Consumers

logger = logging.getLogger(__name__)

FULLNESS = 2
BRIDGED_MS = 50
MOST_FULLNESS = 20
"""How long consumers of short tasks can go on by themselves, and how much may be put into their queue for that."""

FASTEST_MS = 5
SLOWEST_MS = 50
IDLE_MS = 250
NO_QUEUE_MS = 1000
STAND_BY_MS = 500
AWAY_MS = 1000
READ_CONSUMERS_MS = 1000
ANNOUNCED_EACH_MS = 3000
"""How often workers announce themselves; one that has missed five is taken for dead."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """What was measured last of one queue, and how fast it was emptied before, in messages a second."""

    boot_ms: int
    length: int
    given: int
    speed: float = 0.0


class Measuring:
    """Measures while *elector* leads. *fair* are the queues of the settings; those that have lanes besides are emptied too.

    *claimed* tells how many messages are on their way to each queue in the outbox; *wake* is called when messages can be admitted.
    """

    def __init__(
        self,
        *,
        admitting: Admitting,
        consumers: Consumers,
        lengths: QueueLengths,
        rooms: Rooms,
        elector: Elector,
        clock: Clock,
        fair: Iterable[str],
        default_capacity: int,
        claimed: Callable[[Sequence[str]], Mapping[str, int]] = lambda queues: dict.fromkeys(queues, 0),
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self.admitting = admitting
        self.consumers = consumers
        self.lengths = lengths
        self.rooms = rooms
        self.elector = elector
        self.clock = clock
        self.fair = frozenset(fair)
        self.default_capacity = default_capacity
        self.claimed = claimed
        self.wake = wake
        self._roster = Roster(lease_ms=ANNOUNCED_EACH_MS)
        self._capacities: dict[str, int] = {}
        self._consumers_boot_ms: int | None = None
        self._readings: dict[str, _Reading] = {}
        self._away = False
        self._unconsumed: set[str] = set()
        self._unmeasured: set[str] = set()

    def step(self) -> int:
        """Measure all queues once; return in how many ms to call again."""
        term = self.elector.trusted_term()
        if term is None:
            self._consumers_boot_ms = None
            return STAND_BY_MS
        self.rooms.begin(term.epoch)
        queues = sorted(self.fair | {*self.admitting.lanes.queues()})
        if not queues:
            return NO_QUEUE_MS
        self._read_consumers()
        try:
            return self._measure(term.epoch, queues)
        except BrokerUnavailable as error:
            if not self._away:
                logger.warning("fair queues are given nothing until they can be measured again: %s", error)
            self._away = True
            self.rooms.unmeasured({*queues})
            return AWAY_MS
        except StaleEpoch as error:
            logger.info("the fair queues are another leader's to measure: %s", error)
            return STAND_BY_MS

    def target(self, queue: str) -> int:
        """Return how many messages *queue* is to hold."""
        capacity, reading = self._capacities.get(queue) or self.default_capacity, self._readings.get(queue)
        emptied = int(reading.speed * BRIDGED_MS / 1000) if reading is not None else 0
        return max(FULLNESS * capacity, min(emptied, MOST_FULLNESS * capacity))

    def _measure(self, epoch: int, queues: list[str]) -> int:
        given = {queue: self.rooms.given(queue) for queue in queues}
        claimed = self.claimed(queues)
        lengths = {queue: length + claimed[queue] for queue, length in self.lengths.measure(queues).items()}
        self._away = False
        self._tell_unmeasured({*queues} - {*lengths})
        queues = [queue for queue in queues if queue in lengths]
        if not queues:
            return AWAY_MS
        room = {queue: self.target(queue) - lengths[queue] for queue in queues}
        stands = self.admitting.make_room(epoch, {queue: (room[queue], "fair" if queue in self.fair else "former") for queue in queues})
        for queue in queues:
            self.rooms.measured(queue, target=self.target(queue), length=lengths[queue], given=given[queue], waiting=stands[queue].total)
            self._readings[queue] = self._reading(queue, lengths[queue], given[queue])
        self._tell_unconsumed({queue: stand.total for queue, stand in stands.items()})
        if any(stands[queue].total and room[queue] > 0 for queue in queues):
            self.wake()
        return min(self._pause_ms(queue, stands[queue], room[queue]) for queue in queues)

    def _reading(self, queue: str, length: int, given: int) -> _Reading:
        boot_ms, last = self.clock.boot_ms(), self._readings.get(queue)
        if last is None:
            return _Reading(boot_ms, length, given)
        taken = given - last.given - (length - last.length)
        speed = max(taken, 0) * 1000 / max(boot_ms - last.boot_ms, 1)
        return _Reading(boot_ms, length, given, (speed + last.speed) / 2)

    def _pause_ms(self, queue: str, stand: Stand, room: int) -> int:
        """Return when to measure *queue* again."""
        if not stand.total:
            return IDLE_MS if stand.left >= room else SLOWEST_MS
        speed = self._readings[queue].speed
        emptied_ms = 1000 * self.target(queue) / 2 / speed if speed else SLOWEST_MS
        return int(min(max(emptied_ms, FASTEST_MS), SLOWEST_MS))

    def _tell_unconsumed(self, waiting: Mapping[str, int]) -> None:
        """Tell once of each queue for which something waits and that no worker consumes which has said so."""
        for queue, count in waiting.items():
            if queue in self._capacities:
                self._unconsumed.discard(queue)
            elif count and queue not in self._unconsumed:
                self._unconsumed.add(queue)
                logger.warning("%d message(s) wait for %s, and no worker has said that it consumes that queue", count, queue)
                fair_queue_unconsumed.send(sender=self, queue=queue, waiting=count)

    def _tell_unmeasured(self, queues: set[str]) -> None:
        """Give nothing to *queues*, whose keys are no lists, and tell once of each."""
        self.rooms.unmeasured(queues)
        for queue in sorted(queues - self._unmeasured):
            logger.error("%s is given nothing: its key in the broker holds something else than a list", queue)
        self._unmeasured = queues

    def _read_consumers(self) -> None:
        boot_ms = self.clock.boot_ms()
        if self._consumers_boot_ms is not None and boot_ms - self._consumers_boot_ms < READ_CONSUMERS_MS:
            return
        self._consumers_boot_ms = boot_ms
        lines = self.consumers.read()
        silent = self._roster.observe(lines, boot_ms=boot_ms)
        self.consumers.withdraw(*silent)
        self._capacities = _capacities({hostname: line for hostname, line in lines.items() if hostname not in silent})


def _capacities(lines: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """Return how many tasks run at once of each queue."""
    capacities: dict[str, int] = {}
    for line in lines.values():
        for queue in line["queues"]:
            capacities[queue] = capacities.get(queue, 0) + line["concurrency"]
    return capacities
