"""Reaper: finds runs whose process has fallen silent, and starts long ones again elsewhere.

A process moves the counter of each of its runs every ``tw_heartbeat_interval``. The leader reads all counters twice a second. One that
stands still for ``tw_heartbeat_timeout`` is silent (see `pulses`).

What becomes of a silent run is told by scripts, which compare the token and the counter once more: a run that moves in that very moment is
left alone. A long run goes on from its stored message; lost too often without a new checkpoint it fails, which *mourn* makes known. Any
other run is only set free: the broker, which still has its message, will bring it again. A long run that waits for that message to come to
a process is looked after too (see `resending`).
"""

import logging
from collections.abc import Callable
from functools import partial

from celery_tw.clock import Clock
from celery_tw.errors import StaleEpoch, StoreUnavailable
from celery_tw.events import heartbeat_missed, run_given_up, run_reassigned
from celery_tw.leadership.elector import Elector
from celery_tw.scheduler.pulses import Pulse, Pulses
from celery_tw.scheduler.resending import Resending
from celery_tw.stores.redis.deferring import EntryIds
from celery_tw.stores.redis.runs.record import Record
from celery_tw.stores.redis.runs.right import Right
from celery_tw.stores.redis.runs.runs import Runs

logger = logging.getLogger(__name__)

LOOK_MS = 500
STAND_BY_MS = 1000


class Reaper:
    """Looks after the runs while *elector* leads; *rest_of* makes a record of the timetable from a stored message."""

    def __init__(
        self,
        *,
        runs: Runs,
        ids: EntryIds,
        elector: Elector,
        clock: Clock,
        timeout_ms: int,
        most: int,
        rest_of: Callable[[bytes], bytes],
        resending: Resending,
        mourn: Callable[[Record], None],
        bury: Callable[[Record], None] = lambda _: None,
        take_back: Callable[[Record], None] = lambda _: None,
    ) -> None:
        self.runs = runs
        self.ids = ids
        self.elector = elector
        self.clock = clock
        self.timeout_ms = timeout_ms
        self.most = most
        self.rest_of = rest_of
        self.mourn = mourn
        self.bury = bury
        self.take_back = take_back
        self.resending = resending
        self.pulses = Pulses()

    def step(self) -> int:
        """Look once; return in how many ms to call again."""
        term = self.elector.trusted_term()
        if term is None:
            return STAND_BY_MS
        counters = self.runs.under_way.counters()
        now_ms = self.clock.boot_ms()
        self.pulses.note(term.epoch, counters, now_ms)
        try:
            self._reap(term.epoch, self.pulses.still(lambda _: self.timeout_ms), now_ms)
            self.resending.look(term.epoch, now_ms)
        except StaleEpoch as error:
            logger.info("the runs are another leader's to look after: %s", error)
            self.pulses.restart_all()
        return LOOK_MS

    def _reap(self, epoch: int, silent: dict[str, Pulse], now_ms: int) -> None:
        records = {record.mid: record for record in self.runs.under_way.read(silent)}
        for mid, pulse in silent.items():
            record = records.get(mid)
            if record is None:
                self.runs.under_way.forget(mid)
            elif record.counter == pulse.counter:
                silent_ms = now_ms - pulse.since_ms
                heartbeat_missed.send(sender=self, mid=mid, task=record.task, task_id=record.task_id, silent_ms=silent_ms)
                logger.warning("%s[%s] has been silent for %.1f s", record.task, record.task_id, silent_ms / 1000)
                self._end_silence(epoch, record)
            self.pulses.restart(mid)

    def _end_silence(self, epoch: int, record: Record) -> None:
        right = Right.of_leader(epoch, record)
        if record.envelope is None:
            self.runs.finish(right, "lost", mid=record.mid, task_id=record.task_id, guards=record.guards)
            return
        verdict, losses = self.runs.messages.reassign(
            right, "lost", self.ids, mid=record.mid, task_id=record.task_id, rest=self.rest_of(record.envelope), most=self.most
        )
        if verdict == "put":
            logger.warning("%s[%s] goes on elsewhere (loss %d)", record.task, record.task_id, losses)
            facts = {"mid": record.mid, "task": record.task, "task_id": record.task_id, "losses": losses, "reason": "silent"}
            run_reassigned.send(sender=self, **facts)
        elif verdict == "enough":
            self._give_up(right, record, losses)

    def _give_up(self, right: Right, record: Record, losses: int) -> None:
        """Fail a run; its message is buried before, for its record goes with the run."""
        self.bury(record)
        if self._fail(right, record):
            logger.error("%s[%s] was lost %d times without a new checkpoint and fails", record.task, record.task_id, losses)
            run_given_up.send(sender=self, mid=record.mid, task=record.task, task_id=record.task_id, losses=losses)
            self.mourn(record)
        else:
            self.take_back(record)

    def _fail(self, right: Right, record: Record) -> bool:
        """End a run; a refusal after an answer that was lost is no refusal if the run is gone: that answer was the end of it."""
        finish = partial(self.runs.finish, right, "failed", mid=record.mid, task_id=record.task_id, guards=record.guards)
        try:
            return finish()[0]
        except StoreUnavailable:
            return finish()[0] or not self.runs.under_way.read([record.mid])
