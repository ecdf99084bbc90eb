"""Outbox: what was claimed for a broker that is not the timetable's Redis, on its way there.

::

    due ──FIRE──▶ outbox ──publish──▶ broker
                    │ ▲                  │ confirmed                     ▶ struck out
                    │ └──────────────────┤ unknown (no answer)           ▶ published again: a copy with the same ids is possible
                    │                    │ refused, unroutable           ▶ tried again after 1, 2, 4, 8 s, then buried
                    │                    └ at most once, and not sure    ▶ recorded as skipped
                    └ cancelled in time                                  ▶ recorded as skipped, and announced

The outbox is in Redis and the truth. Its messages are read in the order of their claims, so those that an older term left behind come
first, and while the broker is at work on a batch what comes next is read. A message is struck out only after the broker has confirmed it:
a leader that dies in between leaves it to the next one.

At most `OUTSTANDING` messages wait at a time, not counting those that the broker refuses; the rest stays due in the timetable, where it
can be cancelled and edited. Messages of one entry go out one after the other, each when the one before it is settled, so one that is
refused holds back its own entry's and no other's.

``at_most_once`` is the other way round: its message leaves the outbox before it is published, for a mark that the confirmation strikes out.
Whoever finds the mark of an older term does not know whether the broker has the message, and records a skip that says so.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from celery_tw.clock import Clock, RedisTime
from celery_tw.core.misfire import SkippedRange
from celery_tw.core.term import Term
from celery_tw.errors import BrokerUnavailable, MalformedRecord, StaleEpoch, StoreRefused, StoreUnavailable
from celery_tw.events import fire_refused, message_buried, slots_skipped
from celery_tw.failpoints import failpoint
from celery_tw.leadership.elector import Elector
from celery_tw.scheduler.ports import Outcome, Publisher
from celery_tw.stores.redis.claims import FIRST, Claim, Claims, Settlement
from celery_tw.stores.redis.envelope import Envelope, read_envelope

logger = logging.getLogger(__name__)

OUTSTANDING = 1000
REFUSED_OUTSTANDING = 10_000
BATCH = 500
REFUSALS = 5
STAND_BY_MS = 1000
AWAY_MS = 500
UNKNOWN_MS = 100


@dataclass(slots=True)
class Parcel:
    """A claimed message that waits here until *wake_ms*."""

    claim: Claim
    envelope: Envelope
    refusals: int = 0
    wake_ms: int = 0

    @property
    def name(self) -> str:
        """Return the name of its entry, or of its task."""
        headers = self.envelope.headers
        return str(headers.get("periodic_task_name") or headers.get("task") or self.claim.entry_id)

    @property
    def slot_ms(self) -> int:
        """Return the slot, or the ETA, that it was sent for."""
        headers = self.envelope.headers
        return int(headers.get("tw_slot") or headers.get("tw_eta") or self.claim.claimed_ms)

    def mark(self) -> dict[str, Any]:
        """Return what a mark, or a grave, says of it."""
        return {"entry": self.claim.entry_id, "name": self.name, "slot_ms": self.slot_ms, "mid": self.envelope.mid}


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
        self.claims = claims
        self.publisher = publisher
        self.elector = elector
        self.clock = clock
        self.redis_time = redis_time
        self.on_room = on_room
        self.on_cancelled = on_cancelled
        self.on_buried = on_buried
        self.on_delivered = on_delivered
        self.idle_ms = idle_ms
        self._epoch: int | None = None
        self._parcels: dict[str, Parcel] = {}
        self._refusals: dict[str, int] = {}
        self._to_record: list[Settlement] = []
        self._read_up_to = FIRST
        self._away = False
        self._untold_room = False

    def room(self) -> int:
        """Return how many messages may be claimed now."""
        sizes = self.claims.sizes()
        return min(OUTSTANDING - (sizes.waiting - sizes.refused), REFUSED_OUTSTANDING - sizes.waiting)

    def on_their_way(self, queues: Iterable[str]) -> dict[str, int]:
        """Return how many messages may be on their way to each of *queues*: of those not read yet, all."""
        waiting = self.claims.sizes().waiting
        parcels = list(self._parcels.values())
        unread = max(0, waiting - len(parcels))
        ways = [(parcel.envelope.routing_key, *parcel.envelope.declare) for parcel in parcels if not parcel.refusals]
        return {queue: unread + sum(queue in way for way in ways) for queue in queues}

    def step(self) -> int:
        """Publish a batch; return in how many ms to call again."""
        term = self.elector.term
        if term is None or not term.trusted(self.clock.boot_ms()):
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
        self._parcels.clear()
        self._read_up_to = FIRST
        self._refusals = self.claims.refusals()
        marks = self.claims.unsure()
        self.claims.settle(epoch, [_skipped(claim_id, mark, "delivery: unknown") for claim_id, mark in marks.items()])
        for mark in marks.values():
            self._report_skip(mark, "delivery: unknown")
        self._epoch = epoch

    def _work(self, term: Term) -> int:
        epoch = term.epoch
        now_ms = self.redis_time.now_ms()
        if len(self._due(now_ms)) < BATCH:
            self._read()
        self._record(epoch)
        batch = self._due(now_ms)
        if not batch:
            self._tell_of_room()
            return self._wait_ms(now_ms)
        self.publisher.open()
        self._report_back()
        batch = self._without_cancelled(epoch, batch)
        self._tell_of_room()
        failpoint("K2")
        if not term.trusted(self.clock.boot_ms()):
            return 0
        outcomes = self._publish(epoch, batch)
        failpoint("K4")
        self._settle(batch, outcomes, now_ms)
        self._record(epoch)
        failpoint("K5")
        return UNKNOWN_MS if batch and all(outcome.verdict == "unknown" for outcome in outcomes) else 0

    # What waits

    def _read(self) -> None:
        """Take what has been claimed since the last look."""
        if len(self._parcels) >= OUTSTANDING + REFUSED_OUTSTANDING:
            return
        for claim in self.claims.read(after=self._read_up_to, limit=OUTSTANDING):
            self._read_up_to = claim.claim_id
            try:
                self._parcels[claim.claim_id] = Parcel(claim, read_envelope(claim.message), self._refusals.get(claim.claim_id, 0))
            except MalformedRecord as error:
                self._to_record.append(self._bury(claim, {"entry": claim.entry_id, "name": str(claim.entry_id)}, str(error)))

    def _read_ahead(self) -> None:
        """Take it while the broker is at work; if Redis does not answer, the next step finds out."""
        with suppress(StoreUnavailable, StoreRefused):
            self._read()

    def _due(self, now_ms: int) -> list[Parcel]:
        """Return the oldest message of each entry, unless it has to wait, up to a batch."""
        seen: set[int] = set()
        batch: list[Parcel] = []
        for parcel in self._parcels.values():
            if parcel.claim.entry_id in seen:
                continue
            seen.add(parcel.claim.entry_id)
            if parcel.wake_ms <= now_ms:
                batch.append(parcel)
                if len(batch) == BATCH:
                    break
        return batch

    def _wait_ms(self, now_ms: int) -> int:
        return min((parcel.wake_ms - now_ms for parcel in self._parcels.values() if parcel.wake_ms > now_ms), default=self.idle_ms)

    def _without_cancelled(self, epoch: int, batch: Sequence[Parcel]) -> list[Parcel]:
        """Strike out what was cancelled after it was claimed; return the others."""
        cancelled = self.claims.cancelled_ms([parcel.envelope.task_id for parcel in batch])
        stopped = [parcel for parcel, at_ms in zip(batch, cancelled, strict=True) if at_ms is not None and at_ms > parcel.claim.claimed_ms]
        if not stopped:
            return list(batch)
        self.claims.settle(epoch, [_skipped(parcel.claim.claim_id, parcel.mark(), "cancelled") for parcel in stopped])
        self._drop(stopped)
        self._untold_room = True
        for parcel in stopped:
            self._report_skip(parcel.mark(), "cancelled")
        self.on_cancelled([parcel.envelope for parcel in stopped])
        return [parcel for parcel in batch if parcel.claim.claim_id in self._parcels]

    # Publishing

    def _publish(self, epoch: int, batch: Sequence[Parcel]) -> list[Outcome]:
        """Publish *batch*: what may go out again all at once, the others each for itself, so that none is sent again to find a fault."""
        again = [parcel for parcel in batch if not parcel.claim.at_most_once]
        once = [parcel for parcel in batch if parcel.claim.at_most_once]
        self.claims.settle(epoch, [Settlement(claim_id=parcel.claim.claim_id, verb="let go", record=parcel.mark()) for parcel in once])
        outcomes = dict(zip((parcel.claim.claim_id for parcel in again), self._send(again), strict=True))
        for parcel in once:
            (outcomes[parcel.claim.claim_id],) = self._send([parcel])
        return [outcomes[parcel.claim.claim_id] for parcel in batch]

    def _send(self, parcels: Sequence[Parcel]) -> list[Outcome]:
        return self.publisher.publish([parcel.envelope for parcel in parcels], meanwhile=self._read_ahead) if parcels else []

    def _settle(self, batch: Sequence[Parcel], outcomes: Sequence[Outcome], now_ms: int) -> None:
        """Decide what became of *batch*; it is kept until it is recorded, however often Redis or the lead is lost meanwhile."""
        settlements = [
            settlement
            for parcel, outcome in zip(batch, outcomes, strict=True)
            if (settlement := self._settlement(parcel, outcome, now_ms)) is not None
        ]
        self._to_record += settlements
        gone = {settlement.claim_id for settlement in settlements if settlement.verb != "refused"}
        self._drop(parcel for parcel in batch if parcel.claim.claim_id in gone)

    def _record(self, epoch: int) -> None:
        if self._to_record:
            self.claims.settle(epoch, self._to_record)
            self._to_record = []
            self._untold_room = True

    def _tell_of_room(self) -> None:
        """Let more be claimed, once the next batch has asked Redis what it has to: it would have to wait for the claims."""
        if self._untold_room:
            self._untold_room = False
            self.on_room()

    def _settlement(self, parcel: Parcel, outcome: Outcome, now_ms: int) -> Settlement | None:
        """Return what is recorded of *parcel*; None when it simply goes out again."""
        claim_id = parcel.claim.claim_id
        if outcome.verdict == "confirmed":
            if parcel.refusals:
                self.on_delivered(parcel)
            return Settlement(claim_id=claim_id, verb="done")
        if parcel.claim.at_most_once:
            return self._not_sent_again(parcel, outcome)
        if outcome.verdict == "unknown":
            return None
        return self._refused(parcel, outcome.reason, now_ms)

    def _not_sent_again(self, parcel: Parcel, outcome: Outcome) -> Settlement:
        reason = "delivery: unknown" if outcome.verdict == "unknown" else "delivery: refused"
        if outcome.verdict != "unknown":
            parcel.refusals += 1
            self.on_buried(parcel, outcome.reason)
        self._report_skip(parcel.mark(), reason)
        return _skipped(parcel.claim.claim_id, parcel.mark(), reason)

    def _refused(self, parcel: Parcel, reason: str, now_ms: int) -> Settlement:
        parcel.refusals += 1
        if parcel.refusals >= REFUSALS:
            self.on_buried(parcel, reason)
            return self._bury(parcel.claim, {**parcel.mark(), "refusals": parcel.refusals}, reason)
        wait_ms = 1000 * 2 ** (parcel.refusals - 1)
        parcel.wake_ms = now_ms + wait_ms
        logger.error("the broker refused a message of %s, tried again in %d s: %s", parcel.name, wait_ms // 1000, reason)
        fire_refused.send(sender=self, name=parcel.name, entry_id=parcel.claim.entry_id, slot_ms=parcel.slot_ms, reason=reason)
        record = {"count": parcel.refusals, "reason": reason}
        return Settlement(claim_id=parcel.claim.claim_id, verb="refused", record=record)

    def _bury(self, claim: Claim, mark: dict[str, Any], reason: str) -> Settlement:
        logger.error("a message of %s is buried, the broker does not take it: %s", mark["name"], reason)
        message_buried.send(sender=self, claim_id=claim.claim_id, name=mark["name"], entry_id=claim.entry_id, reason=reason)
        return Settlement(claim_id=claim.claim_id, verb="buried", record={"reason": reason, **mark})

    def _drop(self, parcels: Iterable[Parcel]) -> None:
        for parcel in parcels:
            self._parcels.pop(parcel.claim.claim_id, None)

    # What people hear

    def _report_skip(self, mark: dict[str, Any], reason: str) -> None:
        logger.warning("a message of %s was not delivered for certain: %s", mark["name"], reason)
        slot_ms = mark["slot_ms"]
        slots_skipped.send(sender=self, name=mark["name"], entry_id=mark["entry"], from_ms=slot_ms, to_ms=slot_ms, count=1, reason=reason)

    def _report_away(self, why: str) -> None:
        if not self._away:
            logger.error("what is claimed waits for the broker: %s", why)
        self._away = True

    def _report_back(self) -> None:
        if self._away:
            logger.info("the broker is back")
        self._away = False


def _skipped(claim_id: str, mark: dict[str, Any], reason: str) -> Settlement:
    slot_ms = int(mark["slot_ms"])
    return Settlement(
        claim_id=claim_id,
        verb="skipped",
        entry_id=int(mark["entry"]),
        entry_name=str(mark["name"]),
        skipped=SkippedRange(from_ms=slot_ms, to_ms=slot_ms, count=1, reason=reason),
    )
