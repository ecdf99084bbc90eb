"""Settling: what became of the messages in the outbox, for the record and for people.

==========================  ==============================  ====================================================
the broker                  at least once                   at most once, let go before it was published
==========================  ==============================  ====================================================
has confirmed it            struck out                      its mark is struck out
has not answered            nothing: it goes out again      a skip: "delivery: unknown"
refuses it, has no queue    later again, buried at last     a skip: "delivery: refused"
==========================  ==============================  ====================================================

What is cancelled in time is a skip as well, and so is the mark of an older term: nobody knows whether the broker has that message. What is
decided is kept until it is recorded, however often Redis or the lead is lost meanwhile.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from celery_tw.core.misfire import SkippedRange
from celery_tw.events import fire_refused, message_buried, slots_skipped
from celery_tw.scheduler.parcels import Parcel
from celery_tw.scheduler.ports import Outcome
from celery_tw.stores.redis.claims import Claim, Claims, Settlement

logger = logging.getLogger(__name__)

REFUSALS = 5

UNKNOWN = "delivery: unknown"
REFUSED = "delivery: refused"


class Settling:
    """Settles in *claims*; *on_buried* and *on_delivered* are those of the outbox."""

    def __init__(self, claims: Claims, *, on_buried: Callable[[Parcel, str], None], on_delivered: Callable[[Parcel], None]) -> None:
        self.claims = claims
        self.on_buried = on_buried
        self.on_delivered = on_delivered
        self._to_record: list[Settlement] = []

    def record(self, epoch: int) -> bool:
        """Record what was decided; return whether there was anything. Raises `StaleEpoch`."""
        if not self._to_record:
            return False
        self.claims.settle(epoch, self._to_record)
        self._to_record = []
        return True

    def decide(self, batch: Sequence[Parcel], outcomes: Sequence[Outcome], now_ms: int) -> list[Parcel]:
        """Decide what became of *batch*, to be recorded; return those that wait no longer."""
        settlements = [
            settlement
            for parcel, outcome in zip(batch, outcomes, strict=True)
            if (settlement := self._settlement(parcel, outcome, now_ms)) is not None
        ]
        self._to_record += settlements
        gone = {settlement.claim_id for settlement in settlements if settlement.verb != "refused"}
        return [parcel for parcel in batch if parcel.claim.claim_id in gone]

    def bury_unreadable(self, claim: Claim, why: str) -> None:
        """Bury a claim that holds no message, when the next is recorded."""
        self._to_record.append(self._bury(claim, {"entry": claim.entry_id, "name": str(claim.entry_id)}, why))

    # What is recorded at once

    def let_go(self, epoch: int, parcels: Sequence[Parcel]) -> None:
        """Take at-most-once messages out of the outbox, which are about to be published, for marks."""
        self.claims.settle(epoch, [Settlement(claim_id=parcel.claim.claim_id, verb="let go", record=parcel.mark()) for parcel in parcels])

    def skip_cancelled(self, epoch: int, parcels: Sequence[Parcel]) -> None:
        """Strike *parcels* out as cancelled."""
        self._skip(epoch, {parcel.claim.claim_id: parcel.mark() for parcel in parcels}, "cancelled")

    def skip_unsure(self, epoch: int) -> None:
        """Record the marks that an older term left as skips."""
        self._skip(epoch, self.claims.unsure(), UNKNOWN)

    def _skip(self, epoch: int, marks: Mapping[str, dict[str, Any]], reason: str) -> None:
        self.claims.settle(epoch, [_skipped(claim_id, mark, reason) for claim_id, mark in marks.items()])
        for mark in marks.values():
            self._report_skip(mark, reason)

    # One message

    def _settlement(self, parcel: Parcel, outcome: Outcome, now_ms: int) -> Settlement | None:
        """Return what is recorded of *parcel*; None when it simply goes out again."""
        if outcome.verdict == "confirmed":
            if parcel.refusals:
                self.on_delivered(parcel)
            return Settlement(claim_id=parcel.claim.claim_id, verb="done")
        if parcel.claim.at_most_once:
            return self._not_sent_again(parcel, outcome)
        if outcome.verdict == "unknown":
            return None
        return self._refused(parcel, outcome.reason, now_ms)

    def _not_sent_again(self, parcel: Parcel, outcome: Outcome) -> Settlement:
        reason = UNKNOWN if outcome.verdict == "unknown" else REFUSED
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

    def _report_skip(self, mark: dict[str, Any], reason: str) -> None:
        logger.warning("a message of %s was not delivered for certain: %s", mark["name"], reason)
        slot_ms = mark["slot_ms"]
        slots_skipped.send(sender=self, name=mark["name"], entry_id=mark["entry"], from_ms=slot_ms, to_ms=slot_ms, count=1, reason=reason)


def _skipped(claim_id: str, mark: dict[str, Any], reason: str) -> Settlement:
    slot_ms = int(mark["slot_ms"])
    return Settlement(
        claim_id=claim_id,
        verb="skipped",
        entry_id=int(mark["entry"]),
        entry_name=str(mark["name"]),
        skipped=SkippedRange(from_ms=slot_ms, to_ms=slot_ms, count=1, reason=reason),
    )
