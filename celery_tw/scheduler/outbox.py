"""Outbox: what was claimed for a broker that is not the timetable's Redis, on its way there.

::

    due ──FIRE──▶ outbox ──publish──▶ broker
                    │ ▲                  │ confirmed                     ▶ struck out
                    │ └──────────────────┤ unknown (no answer)           ▶ published again: a copy with the same ids is possible
                    │                    │ refused, unroutable           ▶ tried again after 1, 2, 4, 8 s, then buried
                    │                    └ at most once, and not sure    ▶ recorded as skipped
                    └ cancelled in time                                  ▶ recorded as skipped, and announced

The outbox is in Redis and the truth. Its messages are read in the order of their claims (``parcels.py``), so those that an older term left
behind come first, and while the broker is at work on a batch what comes next is read. A message is struck out only after the broker has
confirmed it (``settling.py``): a leader that dies in between leaves it to the next one.

``at_most_once`` is the other way round: its message leaves the outbox before it is published, for a mark that the confirmation strikes out.
Whoever finds the mark of an older term does not know whether the broker has the message, and records a skip that says so.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress

from celery_tw.clock import Clock, RedisTime
from celery_tw.core.term import Term
from celery_tw.errors import BrokerUnavailable, StaleEpoch, StoreRefused, StoreUnavailable
from celery_tw.failpoints import failpoint
from celery_tw.leadership.elector import Elector
from celery_tw.scheduler.parcels import BATCH, Parcel, Parcels
from celery_tw.scheduler.ports import Outcome, Publisher
from celery_tw.scheduler.settling import Settling
from celery_tw.stores.redis.claims import Claims
from celery_tw.stores.redis.envelope import Envelope

logger = logging.getLogger(__name__)

STAND_BY_MS = 1000
AWAY_MS = 500
UNKNOWN_MS = 100


class Outbox:
    """Publishes claimed messages while *elector* leads, looking for them each *idle_ms* at least.

    *on_room* is called when the outbox has become shorter, *on_cancelled* with the messages that are kept back, for nobody else will tell
    what became of them. *on_buried* is called with a message that is given up because the broker does not take it, and why; *on_delivered*
    with one that it took after all, for an earlier leader may have given that up without being able to record it.
    """

    def __init__(
        self,
        *,
        claims: Claims,
        publisher: Publisher,
        elector: Elector,
        clock: Clock,
        redis_time: RedisTime,
        on_room: Callable[[], None] = lambda: None,
        on_cancelled: Callable[[Sequence[Envelope]], None] = lambda _: None,
        on_buried: Callable[[Parcel, str], None] = lambda parcel, reason: None,
        on_delivered: Callable[[Parcel], None] = lambda _: None,
        idle_ms: int = 1000,
    ) -> None:
        self.parcels = Parcels(claims)
        self.settling = Settling(claims, on_buried=on_buried, on_delivered=on_delivered)
        self.publisher = publisher
        self.elector = elector
        self.clock = clock
        self.redis_time = redis_time
        self.on_room = on_room
        self.on_cancelled = on_cancelled
        self.idle_ms = idle_ms
        self._epoch: int | None = None
        self._away = False
        self._untold_room = False

    def step(self) -> int:
        """Publish a batch; return in how many ms to call again."""
        term = self.elector.trusted_term()
        if term is None:
            self._epoch = None
            return STAND_BY_MS
        try:
            if term.epoch != self._epoch:
                self._take_office(term.epoch)
            return self._work(term)
        except StaleEpoch as error:
            logger.warning("what the broker confirmed is left to the next leader: %s", error)
            self._epoch = None
            return STAND_BY_MS
        except BrokerUnavailable as error:
            self._report_away(str(error))
            return AWAY_MS

    def _take_office(self, epoch: int) -> None:
        self._record(epoch)
        self.parcels.start_over()
        self.settling.skip_unsure(epoch)
        self._epoch = epoch

    def _work(self, term: Term) -> int:
        epoch = term.epoch
        now_ms = self.redis_time.now_ms()
        if len(self.parcels.due(now_ms)) < BATCH:
            self._read()
        self._record(epoch)
        batch = self.parcels.due(now_ms)
        if not batch:
            self._tell_of_room()
            return self.parcels.wait_ms(now_ms, idle_ms=self.idle_ms)
        self.publisher.open()
        self._report_back()
        batch = self._without_cancelled(epoch, batch)
        self._tell_of_room()
        failpoint("K2")
        if not term.trusted(self.clock.boot_ms()):
            return 0
        outcomes = self._publish(epoch, batch)
        failpoint("K4")
        self.parcels.drop(self.settling.decide(batch, outcomes, now_ms))
        self._record(epoch)
        failpoint("K5")
        return UNKNOWN_MS if batch and all(outcome.verdict == "unknown" for outcome in outcomes) else 0

    def _read(self) -> None:
        """Take what has been claimed since the last look."""
        for claim, why in self.parcels.read():
            self.settling.bury_unreadable(claim, why)

    def _read_ahead(self) -> None:
        """Take it while the broker is at work; if Redis does not answer, the next step finds out."""
        with suppress(StoreUnavailable, StoreRefused):
            self._read()

    def _record(self, epoch: int) -> None:
        if self.settling.record(epoch):
            self._untold_room = True

    def _tell_of_room(self) -> None:
        """Let more be claimed, once the next batch has asked Redis what it has to: it would have to wait for the claims."""
        if self._untold_room:
            self._untold_room = False
            self.on_room()

    def _without_cancelled(self, epoch: int, batch: Sequence[Parcel]) -> list[Parcel]:
        """Strike out what was cancelled after it was claimed; return the others."""
        stopped = self.parcels.cancelled(batch)
        if not stopped:
            return list(batch)
        self.settling.skip_cancelled(epoch, stopped)
        self.parcels.drop(stopped)
        self._untold_room = True
        self.on_cancelled([parcel.envelope for parcel in stopped])
        gone = {parcel.claim.claim_id for parcel in stopped}
        return [parcel for parcel in batch if parcel.claim.claim_id not in gone]

    def _publish(self, epoch: int, batch: Sequence[Parcel]) -> list[Outcome]:
        """Publish *batch*: what may go out again all at once, the others each for itself, so that none is sent again to find a fault."""
        again = [parcel for parcel in batch if not parcel.claim.at_most_once]
        once = [parcel for parcel in batch if parcel.claim.at_most_once]
        self.settling.let_go(epoch, once)
        outcomes = dict(zip((parcel.claim.claim_id for parcel in again), self._send(again), strict=True))
        for parcel in once:
            (outcomes[parcel.claim.claim_id],) = self._send([parcel])
        return [outcomes[parcel.claim.claim_id] for parcel in batch]

    def _send(self, parcels: Sequence[Parcel]) -> list[Outcome]:
        return self.publisher.publish([parcel.envelope for parcel in parcels], meanwhile=self._read_ahead) if parcels else []

    def _report_away(self, why: str) -> None:
        if not self._away:
            logger.error("what is claimed waits for the broker: %s", why)
        self._away = True

    def _report_back(self) -> None:
        if self._away:
            logger.info("the broker is back")
        self._away = False
