"""Refused messages: those that wait in the outbox although the broker has refused them, and those that were buried for it."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celery_tw.core.misfire import SkippedRange
from celery_tw.stores.redis.claims import skip_on_record
from celery_tw.stores.redis.keys import SKIPS_KEPT_MS, Keys
from celery_tw.stores.redis.scripts import Argument, RedisClient, script, translated_errors

PAGE = 100
"""Messages of one call; they come whole, up to 256 KiB each, within the client's time-out."""

CLAIM_ID = re.compile(r"(\d{1,15})-(\d{1,18})")

DISCARDED = "discarded"
"""The reason of the skip that a discarded message leaves."""


@dataclass(frozen=True, slots=True)
class RefusedMessage:
    """A message that the broker refused: *why* is what the leader noted, *buried* whether it has given it up."""

    claim_id: str
    message: bytes
    why: Mapping[str, Any]
    buried: bool

    @property
    def claimed_ms(self) -> int:
        return _age(self.claim_id)[0]

    @property
    def entry_id(self) -> int:
        return _whole(self.why.get("entry"))

    @property
    def name(self) -> str:
        """Return the name of its entry, or of its task."""
        return str(self.why.get("name") or "")

    @property
    def slot_ms(self) -> int:
        """Return the slot, or the ETA, that it was sent for."""
        return _whole(self.why.get("slot_ms")) or self.claimed_ms


class RefusedMessages:
    """The verbs, on one shard."""

    def __init__(self, client: RedisClient, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def buried_ids(self) -> list[str]:
        """Return the ids of all buried messages, the oldest first."""
        with translated_errors("HKEYS"):
            return sorted((claim_id.decode() for claim_id in self.client.hkeys(self.keys.buried)), key=_age)

    def waiting_ids(self) -> list[str]:
        """Return the ids of the messages in the outbox that the broker has refused, the oldest first."""
        with translated_errors("HKEYS"):
            return sorted((claim_id.decode() for claim_id in self.client.hkeys(self.keys.refused)), key=_age)

    def read(self, claim_ids: Sequence[str]) -> list[RefusedMessage]:
        """Return the messages of *claim_ids*, without those that are no longer there."""
        claim_ids = [claim_id for claim_id in claim_ids if CLAIM_ID.fullmatch(claim_id)]
        pages = (claim_ids[start : start + PAGE] for start in range(0, len(claim_ids), PAGE))
        return [message for page in pages for message in self._read(page)]

    def _read(self, claim_ids: Sequence[str]) -> list[RefusedMessage]:
        shard = self.keys
        with translated_errors("read"), self.client.pipeline(transaction=False) as pipe:
            pipe.hmget(shard.buried, list(claim_ids)).hmget(shard.bad, [f"message {claim_id}" for claim_id in claim_ids])
            pipe.hmget(shard.refused, list(claim_ids))
            for claim_id in claim_ids:
                pipe.xrange(shard.outbox, min=claim_id, max=claim_id)
            buried, reasons, refusals, *waiting = pipe.execute()
        found = []
        for claim_id, message, reason, refusal, claims in zip(claim_ids, buried, reasons, refusals, waiting, strict=True):
            if message is not None:
                found.append(RefusedMessage(claim_id, message, _facts(reason), buried=True))
            elif claims and refusal is not None:
                ((_, fields),) = claims
                found.append(
                    RefusedMessage(claim_id, fields[b"message"], {"entry": fields[b"entry"].decode(), **_facts(refusal)}, buried=False)
                )
        return found

    def requeue(self, messages: Sequence[RefusedMessage]) -> list[RefusedMessage]:
        """Put buried *messages* back into the outbox; return those that were still there."""
        return [message for page in _pages(messages) for message in self._requeue(page)]

    def _requeue(self, messages: Sequence[RefusedMessage]) -> list[RefusedMessage]:
        args: list[Argument] = []
        for message in messages:
            args += (message.claim_id, "requeue", message.entry_id)
        return self._unbury(messages, [], args)

    def discard(self, messages: Sequence[RefusedMessage]) -> list[RefusedMessage]:
        """Throw buried *messages* away, and record their slots as skipped; return those that were still there."""
        return [message for page in _pages(messages) for message in self._discard(page)]

    def _discard(self, messages: Sequence[RefusedMessage]) -> list[RefusedMessage]:
        args: list[Argument] = []
        skips: dict[str, int] = {}
        for message in messages:
            slot_ms = message.slot_ms
            skipped = SkippedRange(from_ms=slot_ms, to_ms=slot_ms, count=1, reason=DISCARDED)
            key, skip = skip_on_record(self.keys, message.entry_id, message.name, skipped)
            args += (message.claim_id, "discard", skips.setdefault(key, len(skips) + 1), skip, slot_ms)
        return self._unbury(messages, list(skips), args)

    def _unbury(self, messages: Sequence[RefusedMessage], skips: list[str], args: list[Argument]) -> list[RefusedMessage]:
        shard = self.keys
        statuses = script("unbury").run(self.client, [shard.buried, shard.bad, shard.outbox, *skips], [SKIPS_KEPT_MS, *args])
        return [message for message, status in zip(messages, statuses, strict=True) if status == b"done"]


def _pages(messages: Sequence[RefusedMessage]) -> Iterator[Sequence[RefusedMessage]]:
    return (messages[start : start + PAGE] for start in range(0, len(messages), PAGE))


def _age(claim_id: str) -> tuple[int, int]:
    """Return what ids in the outbox are ordered by; what is no such id is older than all."""
    found = CLAIM_ID.fullmatch(claim_id)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _whole(value: Any) -> int:
    return int(value) if str(value).isdigit() else 0


def _facts(raw: bytes | None) -> Mapping[str, Any]:
    """Return what was noted of a message; a note that is gone, or is none, says nothing."""
    try:
        facts = json.loads(raw or b"{}")
    except (ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}
