"""Elector: keeps one process's side of the election, one step at a time.

A step is one question to Redis: renew when leading, acquire when not. It never blocks longer than the store's own time-out and returns
after how many ms it wants the next step. Other threads read `term` and `dispatch_held`; only the elector's thread writes
them. Another thread that finds this process unfit to lead says so with `ask_to_stand_down`.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from celery_tw.clock import Clock, RedisTime
from celery_tw.core.term import Term
from celery_tw.errors import StaleEpoch, StoreRefused, StoreUnavailable
from celery_tw.events import clock_stepped, leadership_lost, leadership_taken
from celery_tw.failpoints import failpoint
from celery_tw.leadership.roster import Roster
from celery_tw.leadership.watch import Watch
from celery_tw.stores.redis.election import Election, Held, Led, Newer

logger = logging.getLogger(__name__)

POLL_MS = 250
STAND_DOWN_MS = 5000
VERDICT_LEASES = 1
"""A step of Redis time is judged this many leases after it was seen, when every live scheduler has written its line again."""


class Elector:
    """One scheduler's part in the election of a shard's leader.

    *describe* returns the plain values (host, pid, version) that this process shows of itself.
    """

    def __init__(
        self,
        election: Election,
        *,
        clock: Clock,
        redis_time: RedisTime,
        owner: str,
        lease_ms: int,
        max_skew_ms: int,
        describe: Callable[[], Mapping[str, Any]] = dict,
        shard: int = 0,
    ) -> None:
        self.election = election
        self.clock = clock
        self.redis_time = redis_time
        self.owner = owner
        self.lease_ms = lease_ms
        self.max_skew_ms = max_skew_ms
        self.describe = describe
        self.shard = shard
        self.term: Term | None = None
        self.holder: Held | None = None
        self.dispatch_held = False
        self._unfit: str | None = None
        self._watch = Watch()
        self._roster = Roster(lease_ms=lease_ms)
        self._counter = 0
        self._enrolled_ms = -lease_ms
        self._step: tuple[int, int] | None = None

    def trusted_term(self) -> Term | None:
        """Return the term in which this process may act as leader now, None when it may not."""
        term = self.term
        return term if term is not None and term.trusted(self.clock.boot_ms()) else None

    def leads(self) -> bool:
        """Return whether this process may act as leader now."""
        return self.trusted_term() is not None

    def ask_to_stand_down(self, reason: str) -> None:
        """Let the next step resign, because this process must not lead; any thread may ask."""
        self._unfit = reason

    def step(self) -> int:
        """Renew or try to acquire; return in how many ms the next step is due."""
        try:
            if self._unfit is not None:
                return self._stand_down(self._unfit)
            wait_ms = self._renew() if self.term else self._stand_by()
            self._enrol()
        except StaleEpoch:
            self._lose("another term began")
            return 0
        except StoreUnavailable:
            self._watch.restart()
            self._stop_when_untrusted("Redis does not answer")
            raise
        return wait_ms

    def _stand_down(self, reason: str) -> int:
        """Resign because another thread found that this process must not lead; try again later."""
        logger.error("standing down: %s", reason)
        self.resign()
        self._unfit = None
        return STAND_DOWN_MS

    def _renew(self) -> int:
        term, attempt_ms = self.term, self.clock.boot_ms()
        assert term is not None
        try:
            renewal = self.election.renew(term.epoch, lease_ms=self.lease_ms)
        except StaleEpoch:
            self._lose("another term began, or the lease ran out")
            return 0
        failpoint("K6")
        self.term = term.renewed(attempt_ms=attempt_ms, lease_ms=self.lease_ms)
        self._observe(renewal.now_ms, attempt_ms)
        self.dispatch_held = renewal.clock_held or self._step is not None
        return self.lease_ms // 3

    def _stand_by(self) -> int:
        attempt_ms = self.clock.boot_ms()
        reply = self.election.acquire(self.owner, lease_ms=self.lease_ms, still=self._silent_holder(attempt_ms))
        self._observe(reply.now_ms, attempt_ms)
        if isinstance(reply, Led):
            self._take(reply, attempt_ms)
            return self.lease_ms // 3
        if isinstance(reply, Newer):
            logger.error("standing by: the timetable has schema %d, written by a newer celery-tw; upgrade this process", reply.schema)
            return STAND_DOWN_MS
        self.holder = reply
        return POLL_MS

    def _silent_holder(self, boot_ms: int) -> Held | None:
        """Return the present holder when its counter has stood still for a lease."""
        held = self.holder
        if held is None:
            return None
        return held if self._watch.still_for_ms(held, boot_ms=boot_ms) >= self.lease_ms else None

    def _take(self, led: Led, attempt_ms: int) -> None:
        self.holder = None
        self.dispatch_held = self._step is not None or self.election.clock_hold() is not None
        self.term = Term.won(shard=self.shard, owner=self.owner, epoch=led.epoch, attempt_ms=attempt_ms, lease_ms=self.lease_ms)
        logger.info("leading shard %d with epoch %d", self.shard, led.epoch)
        leadership_taken.send(sender=self, epoch=led.epoch, owner=self.owner)

    def _lose(self, reason: str, *, level: int = logging.WARNING) -> None:
        term, self.term = self.term, None
        if term is not None:
            logger.log(level, "no longer leading shard %d (epoch %d): %s", self.shard, term.epoch, reason)
            leadership_lost.send(sender=self, epoch=term.epoch, owner=self.owner, reason=reason)

    def _stop_when_untrusted(self, reason: str) -> None:
        if self.term is not None and not self.term.trusted(self.clock.boot_ms()):
            self._lose(reason)

    def resign(self) -> None:
        """Give the lead up, so that a stand-by takes over at once; harmless when not leading."""
        term = self.term
        self._lose("resigned", level=logging.INFO)
        if term is not None:
            failpoint("K7")
            self.election.resign(term.epoch)

    def leave(self) -> None:
        """Resign, and take this process off the list of schedulers: it ends."""
        self.resign()
        self.election.strike([self.owner])

    def _enrol(self) -> None:
        """Write this process's line and read the others', once per third of a lease."""
        boot_ms = self.clock.boot_ms()
        if boot_ms - self._enrolled_ms < self.lease_ms // 3 - POLL_MS // 2:
            return
        self._enrolled_ms = boot_ms
        self._counter += 1
        skew_ms = self.clock.wall_ms() - self.redis_time.now_ms()
        role = {"counter": self._counter, "skew_ms": skew_ms, "leads": self.term is not None}
        try:
            self.election.enrol(self.owner, {**self.describe(), **role})
        except StoreRefused as error:
            logger.warning("this scheduler cannot show itself in the list: %s", error)
        self._read_roster(boot_ms)

    def _read_roster(self, boot_ms: int) -> None:
        silent = self._roster.observe(self.election.members(), boot_ms=boot_ms)
        if silent and self.term is not None:
            self.election.strike(silent)
        self._judge_step(boot_ms)

    def _observe(self, redis_ms: int, asked_ms: int) -> None:
        """Take a sample of Redis time, asked for at *asked_ms*; a forward step beyond the allowance stops dispatch until it is judged."""
        step_ms = self.redis_time.observe(redis_ms, asked_ms=asked_ms)
        if abs(step_ms) > self.max_skew_ms:
            logger.warning("Redis time stepped by %d ms", step_ms)
        if step_ms > self.max_skew_ms and self._step is None:
            self._step = (step_ms, self.clock.boot_ms())

    def _leave_to_the_leader(self, since_ms: int) -> None:
        """Forget a step that a leader in office has had the time to judge."""
        if self.holder is not None and since_ms > 2 * VERDICT_LEASES * self.lease_ms:
            self._step = None
            self._roster.settle()

    def _judge_step(self, boot_ms: int) -> None:
        if self._step is None:
            self._roster.settle()
            return
        step_ms, seen_ms = self._step
        if boot_ms - seen_ms < VERDICT_LEASES * self.lease_ms:
            return
        if self.term is None:
            self._leave_to_the_leader(boot_ms - seen_ms)
            return
        self._step = None
        if self._roster.share_a_step(max_skew_ms=self.max_skew_ms):
            logger.warning("the step of %d ms is shared by most schedulers' clocks: dispatch goes on", step_ms)
            return
        self.election.hold_clock(self.term.epoch, step_ms=step_ms)
        self.dispatch_held = True
        logger.error("dispatch is held: Redis time stepped by %d ms and no other clock agrees; see `celery tw clock`", step_ms)
        clock_stepped.send(sender=self, step_ms=step_ms, epoch=self.term.epoch)
