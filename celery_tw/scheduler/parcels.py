"""Parcels: what waits in the outbox, as the leader holds it: read from Redis in the order of the claims, oldest first.

Redis is the truth, so a new term reads everything again. At most `OUTSTANDING` messages wait at a time, not counting those that the broker
refuses; the rest stays due in the timetable, where it can be cancelled and edited. Messages of one entry go out one after the other, each
when the one before it is settled, so one that is refused holds back its own entry's and no other's.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from celery_tw.errors import MalformedRecord
from celery_tw.stores.redis.claims import FIRST, Claim, Claims
from celery_tw.stores.redis.envelope import Envelope, read_envelope

OUTSTANDING = 1000
REFUSED_OUTSTANDING = 10_000
BATCH = 500


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


class Parcels:
    """The parcels of one leader; for one thread, but for `room` and `on_their_way`, which any may ask."""

    def __init__(self, claims: Claims) -> None:
        self.claims = claims
        self._parcels: dict[str, Parcel] = {}
        self._refusals: dict[str, int] = {}
        self._read_up_to = FIRST

    def room(self) -> int:
        """Return how many messages may be claimed now."""
        sizes = self.claims.sizes()
        return min(OUTSTANDING - (sizes.waiting - sizes.refused), REFUSED_OUTSTANDING - sizes.waiting)

    def on_their_way(self, queues: Iterable[str]) -> dict[str, int]:
        """Return how many messages may be on their way to each of *queues*: of those not read yet, all."""
        waiting = self.claims.sizes().waiting
        parcels = self.held()
        unread = max(0, waiting - len(parcels))
        ways = [(parcel.envelope.routing_key, *parcel.envelope.declare) for parcel in parcels if not parcel.refusals]
        return {queue: unread + sum(queue in way for way in ways) for queue in queues}

    def held(self) -> list[Parcel]:
        """Return those that have been read and are not settled."""
        return list(self._parcels.values())

    def start_over(self) -> None:
        """Forget what another term may have settled, and read from the beginning."""
        self._parcels.clear()
        self._read_up_to = FIRST
        self._refusals = self.claims.refusals()

    def read(self) -> list[tuple[Claim, str]]:
        """Take what has been claimed since the last look; return those claims that hold no message, and why."""
        if len(self._parcels) >= OUTSTANDING + REFUSED_OUTSTANDING:
            return []
        unreadable: list[tuple[Claim, str]] = []
        for claim in self.claims.read(after=self._read_up_to, limit=OUTSTANDING):
            self._read_up_to = claim.claim_id
            try:
                self._parcels[claim.claim_id] = Parcel(claim, read_envelope(claim.message), self._refusals.get(claim.claim_id, 0))
            except MalformedRecord as error:
                unreadable.append((claim, str(error)))
        return unreadable

    def due(self, now_ms: int) -> list[Parcel]:
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

    def wait_ms(self, now_ms: int, *, idle_ms: int) -> int:
        """Return in how long the next one that waits is due, *idle_ms* when none waits."""
        return min((parcel.wake_ms - now_ms for parcel in self._parcels.values() if parcel.wake_ms > now_ms), default=idle_ms)

    def cancelled(self, batch: Sequence[Parcel]) -> list[Parcel]:
        """Return those of *batch* that were cancelled after they were claimed."""
        cancelled = self.claims.cancelled_ms([parcel.envelope.task_id for parcel in batch])
        return [parcel for parcel, at_ms in zip(batch, cancelled, strict=True) if at_ms is not None and at_ms > parcel.claim.claimed_ms]

    def drop(self, parcels: Iterable[Parcel]) -> None:
        """Hold *parcels* no longer: they are settled."""
        for parcel in parcels:
            self._parcels.pop(parcel.claim.claim_id, None)
