"""Claims: what waits in the outbox, and what became of it. FIRE, FIRE ONCE, ADMIT or DRAIN writes a claim, SETTLE strikes it out."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from celery_tw.core.misfire import SkippedRange
from celery_tw.stores.redis.codec import encode_skip
from celery_tw.stores.redis.keys import ONE_TIME_SKIPS, SKIPS_KEPT_MS, Keys, is_one_time
from celery_tw.stores.redis.scripts import Argument, RedisClient, script, translated_errors

Verb = Literal["done", "refused", "let go", "buried", "skipped"]

FIRST = "-"


@dataclass(frozen=True, slots=True)
class Claim:
    """A claimed message; *claim_id* is its id in the outbox, in the order of claiming, and begins with when that was, in Redis ms."""

    claim_id: str
    entry_id: int
    at_most_once: bool
    message: bytes

    @property
    def claimed_ms(self) -> int:
        return int(self.claim_id.partition("-")[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What became of a claim, as ``settle.lua`` names it. *record* is kept as JSON; *skipped* belongs to the verb of that name."""

    claim_id: str
    verb: Verb
    record: Mapping[str, Any] | None = None
    entry_id: int = 0
    entry_name: str = ""
    skipped: SkippedRange | None = None


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many messages wait in the outbox, how many of them were refused, and how many were buried."""

    waiting: int
    refused: int
    buried: int


class Claims:
    """The outbox of one shard."""

    def __init__(self, client: RedisClient, keys: Keys, *, lease_ms: int) -> None:
        self.client = client
        self.keys = keys
        self.lease_ms = lease_ms

    def sizes(self) -> Sizes:
        """Return how much waits, was refused and was buried."""
        with translated_errors("XLEN"), self.client.pipeline(transaction=False) as pipe:
            waiting, refused, buried = pipe.xlen(self.keys.outbox).hlen(self.keys.refused).hlen(self.keys.buried).execute()
        return Sizes(int(waiting), int(refused), int(buried))

    def read(self, *, after: str, limit: int) -> list[Claim]:
        """Return the *limit* oldest claims after *after*, a claim id or `FIRST`."""
        start = after if after == FIRST else f"({after}"
        with translated_errors("XRANGE"):
            found = self.client.xrange(self.keys.outbox, min=start, count=limit)
        return [
            Claim(claim_id.decode(), int(fields[b"entry"]), fields[b"delivery"] == b"at_most_once", fields[b"message"])
            for claim_id, fields in found
        ]

    def refusals(self) -> dict[str, int]:
        """Return how often each message was refused that was refused at all, by claim id."""
        with translated_errors("HGETALL"):
            stored = self.client.hgetall(self.keys.refused)
        return {claim_id.decode(): int(json.loads(record)["count"]) for claim_id, record in stored.items()}

    def unsure(self) -> dict[str, dict[str, Any]]:
        """Return the marks of at-most-once messages that were about to be published, by claim id."""
        with translated_errors("HGETALL"):
            stored = self.client.hgetall(self.keys.unsure)
        return {claim_id.decode(): json.loads(record) for claim_id, record in stored.items()}

    def cancelled_ms(self, task_ids: Sequence[str]) -> list[int | None]:
        """Return when each task was last cancelled, in Redis ms, or None."""
        if not task_ids:
            return []
        with translated_errors("ZMSCORE"):
            scores = self.client.zmscore(self.keys.cancelled, list(task_ids))
        return [None if score is None else int(score) for score in scores]

    def settle(self, epoch: int, settlements: Sequence[Settlement]) -> None:
        """Record what became of messages; raises `StaleEpoch` when another term leads."""
        if not settlements:
            return
        shard = self.keys
        keys: list[str | bytes] = [shard.leader, shard.outbox, shard.refused, shard.unsure, shard.buried, shard.bad]
        args: list[Argument] = [epoch, self.lease_ms, SKIPS_KEPT_MS, len(settlements)]
        skips: dict[str, int] = {}
        for settlement in settlements:
            args += (settlement.claim_id, settlement.verb)
            if settlement.record is not None:
                args.append(json.dumps(settlement.record))
            if settlement.skipped is not None:
                key, skip = skip_on_record(shard, settlement.entry_id, settlement.entry_name, settlement.skipped)
                args += (skips.setdefault(key, len(skips) + 1), skip, settlement.skipped.to_ms)
        script("settle").run(self.client, [*keys, *skips], args)


def skip_on_record(keys: Keys, entry_id: int, name: str, skipped: SkippedRange) -> tuple[str, str]:
    """Return where a skip is kept and how: that of a one-time task, which leaves nothing else behind, says whose it is."""
    written = encode_skip(skipped)
    if not is_one_time(entry_id):
        return keys.skips(entry_id), written
    return keys.skips(ONE_TIME_SKIPS), json.dumps({"id": entry_id, "name": name, **json.loads(written)}, separators=(",", ":"))
