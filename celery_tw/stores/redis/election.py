"""Election: the verbs of leadership over one shard's keys. Who may lead is decided by the scripts, when to try by ``leadership/``."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from celery_tw.stores.redis.codec import SCHEMA
from celery_tw.stores.redis.keys import NEWS_KEPT, NEWS_KEPT_MS, Keys
from celery_tw.stores.redis.scripts import RedisClient, script, translated_errors


@dataclass(frozen=True, slots=True)
class Led:
    """The caller leads now."""

    epoch: int
    now_ms: int


@dataclass(frozen=True, slots=True)
class Held:
    """Another process leads; its *counter* grows as long as it lives."""

    owner: str
    epoch: int
    counter: int
    lease_left_ms: int
    now_ms: int


@dataclass(frozen=True, slots=True)
class Newer:
    """The data was written by a newer version, so that this process may not lead."""

    schema: int
    now_ms: int


@dataclass(frozen=True, slots=True)
class Renewal:
    """The term goes on; *clock_held* tells that dispatch waits for a person's word."""

    now_ms: int
    clock_held: bool


class Election:
    """One shard's leader key."""

    def __init__(self, client: RedisClient, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def acquire(self, owner: str, *, lease_ms: int, still: Held | None = None) -> Led | Held | Newer:
        """Take the lead if nobody has it, or from the term *still*, whose counter was seen to stand still."""
        epoch, counter = ("", "") if still is None else (str(still.epoch), str(still.counter))
        keys: list[str | bytes] = [self.keys.leader, self.keys.epoch, self.keys.schema, self.keys.seen]
        reply = script("acquire").run(self.client, keys, [owner, lease_ms, SCHEMA, epoch, counter])
        if reply[0] == b"led":
            return Led(int(reply[1]), int(reply[2]))
        if reply[0] == b"newer":
            return Newer(int(reply[1]), int(reply[2]))
        return Held(reply[1].decode(), int(reply[2]), int(reply[3]), int(reply[4]), int(reply[5]))

    def renew(self, epoch: int, *, lease_ms: int) -> Renewal:
        """Prolong the term *epoch*; raises `StaleEpoch` when it is over."""
        keys: list[str | bytes] = [self.keys.leader, self.keys.clock, self.keys.seen, self.keys.news]
        reply = script("renew").run(self.client, keys, [epoch, lease_ms, NEWS_KEPT_MS])
        return Renewal(int(reply[0]), reply[1] == b"1")

    def resign(self, epoch: int) -> bool:
        """End the term *epoch*; return False when it was over already."""
        keys: list[str | bytes] = [self.keys.leader, self.keys.news, self.keys.news_seq]
        return bool(script("resign").run(self.client, keys, [epoch, NEWS_KEPT]))

    def hold_clock(self, epoch: int, *, step_ms: int) -> None:
        """Hold dispatch until a person accepts a step of Redis time."""
        script("hold_clock").run(self.client, [self.keys.leader, self.keys.clock], [epoch, step_ms])

    def clock_hold(self) -> dict[str, int] | None:
        """Return when (``at``), by how much (``step``) and by which ``epoch`` dispatch is held, or None."""
        with translated_errors("HGETALL"):
            stored = self.client.hgetall(self.keys.clock)
        return {field.decode(): int(value) for field, value in stored.items()} or None

    def accept_clock(self) -> bool:
        """End a hold; return False when there was none."""
        with translated_errors("DEL"):
            return bool(self.client.delete(self.keys.clock))

    def leader(self) -> tuple[dict[str, str], int]:
        """Return the leader's fields (empty when nobody leads) and the rest of its lease in ms."""
        with translated_errors("leader"), self.client.pipeline(transaction=False) as pipe:
            fields, left = pipe.hgetall(self.keys.leader).pttl(self.keys.leader).execute()
        return {field.decode(): value.decode() for field, value in fields.items()}, int(left)

    def enrol(self, member_id: str, record: Mapping[str, Any]) -> None:
        """Write the caller's line in the list of schedulers."""
        with translated_errors("HSET"):
            self.client.hset(self.keys.members, member_id, json.dumps(record))

    def strike(self, member_ids: list[str]) -> None:
        """Take silent schedulers off the list."""
        with translated_errors("HDEL"):
            self.client.hdel(self.keys.members, *member_ids)

    def members(self) -> dict[str, dict[str, Any]]:
        """Return every scheduler's line by its id; an unreadable line counts as an empty one."""
        with translated_errors("HGETALL"):
            stored = self.client.hgetall(self.keys.members)
        return {member.decode(): _line(raw) for member, raw in stored.items()}

    def claim_namespace(self, project: Mapping[str, Any]) -> dict[str, Any]:
        """Write *project* as the owner of the namespace unless it has one; return the owner."""
        with translated_errors("project"):
            owner = self.client.get(self.keys.project)
            if owner is None:
                self.client.set(self.keys.project, json.dumps(project, sort_keys=True), nx=True)
                owner = self.client.get(self.keys.project)
        return _line(owner)

    def record_owner(self, project: Mapping[str, Any]) -> None:
        """Write *project*, which is the owner of the namespace, as it is now."""
        with translated_errors("project"):
            self.client.set(self.keys.project, json.dumps(project, sort_keys=True))


def _line(raw: bytes | None) -> dict[str, Any]:
    try:
        line = json.loads(raw or b"{}")
    except (ValueError, RecursionError):
        return {}
    return line if isinstance(line, dict) else {}
