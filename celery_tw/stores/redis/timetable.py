"""Timetable: what is to come, as clients read it. They change it by `Writing`, the leader by ``dispatching.py``.

Each verb is one command or one pipelined read; none decides anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from celery_tw.errors import MalformedRecord, NewerSchema
from celery_tw.stores.redis.codec import decode_definition, unpack_one_time
from celery_tw.stores.redis.keys import Keys, is_one_time
from celery_tw.stores.redis.lane_keys import lanes_of
from celery_tw.stores.redis.records import Records
from celery_tw.stores.redis.scripts import RedisClient, translated_errors
from celery_tw.stores.redis.static_names import StaticNames
from celery_tw.stores.redis.writing import Writing


@dataclass(frozen=True, slots=True)
class Stored:
    """A recurring entry as it stands in Redis; *definition* is its JSON, unread."""

    entry_id: int
    definition: bytes | None
    version: int
    mark_ms: int
    count: int
    fired_ms: int | None
    paused: bool
    pause_note: str
    removed: bool
    due_ms: int | None


class Timetable:
    """The durable truth about what comes when; *writing* changes it, *static* tells which entries are the settings' own."""

    FIELDS = ("def", "ver", "mark", "count", "fired", "paused", "pause_note", "removed")

    def __init__(self, client: RedisClient, keys: Keys) -> None:
        self.client = client
        self.keys = keys
        self.records = Records(client, keys)
        self.writing = Writing(client, keys, self.records)
        self.static = StaticNames(client, keys)

    def now_ms(self) -> int:
        """Return Redis time in UTC ms."""
        with translated_errors("TIME"):
            seconds, micros = self.client.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def reserve(self, count: int, *, one_time: bool) -> list[int]:
        """Return *count* fresh entry ids: odd ones for one-time tasks, even ones for recurring entries."""
        with translated_errors("INCRBY"):
            last = int(self.client.incrby(self.keys.seq, count))
        return [number * 2 + one_time for number in range(last - count + 1, last + 1)]

    def next_number(self) -> int:
        """Return a number that was never given before."""
        with translated_errors("INCR"):
            return int(self.client.incr(self.keys.seq))

    def find(self, names: Sequence[str]) -> list[int | None]:
        """Return the id of each name, in order; a removed entry's id while its tombstone lasts; None for an unknown one."""
        with translated_errors("find"):
            ids: list[bytes | None] = self.client.hmget(self.keys.names, list(names)) if names else []
            lost = [index for index, found in enumerate(ids) if found is None]
            left = self.client.mget([self.keys.tombstone(names[index]) for index in lost]) if lost else []
        for index, tombstone in zip(lost, left, strict=True):
            ids[index] = tombstone.split()[0] if tombstone else None
        return [None if found is None else int(found) for found in ids]

    def find_living(self, name: str) -> int | None:
        """Return the id of the entry *name*, or None."""
        with translated_errors("HGET"):
            found = self.client.hget(self.keys.names, name)
        return None if found is None else int(found)

    def names(self, *, prefix: str, limit: int, cursor: int) -> tuple[int, list[tuple[str, int]]]:
        """Return the next cursor (0 at the end) and about *limit* pairs of name and id; as for SCAN, a page may be short."""
        pattern = _literal(prefix) + "*" if prefix else None
        found: dict[str, int] = {}
        with translated_errors("HSCAN"):
            while True:
                cursor, page = self.client.hscan(self.keys.names, cursor, match=pattern, count=limit)
                found |= {name.decode(): int(entry_id) for name, entry_id in page.items()}
                if cursor == 0 or len(found) >= limit:
                    return int(cursor), list(found.items())

    def count(self) -> tuple[int, int]:
        """Return how many names there are, and how many entries wait for a due time."""
        with translated_errors("count"), self.client.pipeline(transaction=False) as pipe:
            named, due = pipe.hlen(self.keys.names).zcard(self.keys.due).execute()
        return int(named), int(due)

    def overdue(self, *, grace_ms: int) -> tuple[int, int]:
        """Return how many entries are due by more than *grace_ms*, and by how many ms the oldest is."""
        until_ms = self.now_ms() - grace_ms
        with translated_errors("overdue"), self.client.pipeline(transaction=False) as pipe:
            pipe.zcount(self.keys.due, "-inf", until_ms).zrange(self.keys.due, 0, 0, withscores=True)
            late, first = pipe.execute()
        return int(late), until_ms + grace_ms - int(first[0][1]) if late and first else 0

    def read(self, entry_ids: Sequence[int]) -> list[Stored | None]:
        """Return the recurring entries of *entry_ids*, in order; None where there is none.

        What is due without a readable record is returned without a definition.
        """
        with translated_errors("read"), self.client.pipeline(transaction=False) as pipe:
            for entry_id in entry_ids:
                pipe.hmget(self.keys.entry(entry_id), self.FIELDS)
            if entry_ids:
                pipe.zmscore(self.keys.due, [str(entry_id) for entry_id in entry_ids])
            *rows, scores = pipe.execute(raise_on_error=False) if entry_ids else [[]]
            _raise_unless_wrong_type([*rows, scores])
        return [_stored(*item) for item in zip(entry_ids, rows, scores, strict=True)]

    def read_one_time(self, entry_id: int) -> tuple[bytes | None, int | None, bool]:
        """Return a one-time task's whole record, its due ms (or when it came to its lane) and whether it is held."""
        with translated_errors("read"), self.client.pipeline(transaction=False) as pipe:
            pipe.get(self.keys.entry(entry_id)).zscore(self.keys.due, str(entry_id)).hget(self.keys.held, str(entry_id))
            record, due, held = pipe.execute()
        due_ms = due if held is None else held
        (whole,) = self.records.whole([record])
        if due_ms is None:
            due_ms = self._since(entry_id, lanes_of(self.keys, whole))
        return whole, None if due_ms is None else int(due_ms), held is not None

    def _since(self, entry_id: int, lanes: Sequence[str]) -> float | None:
        """Return when a task came to one of *lanes*, in ms, None when it waits in none."""
        if not lanes:
            return None
        with translated_errors("ZSCORE"), self.client.pipeline(transaction=False) as pipe:
            for lane in lanes:
                pipe.zscore(lane, str(entry_id))
            return next((score for score in pipe.execute() if score is not None), None)

    def read_stored(self, entry_id: int) -> bytes | None:
        """Return a one-time task's record as it is stored, or None."""
        with translated_errors("GET"):
            record: bytes | None = self.client.get(self.keys.entry(entry_id))
            return record

    def nearest(self, limit: int) -> list[tuple[int, int]]:
        """Return the next *limit* pairs of due ms and entry id."""
        with translated_errors("ZRANGE"):
            page = self.client.zrange(self.keys.due, 0, limit - 1, withscores=True)
        return [(int(score), int(member)) for member, score in page]

    def name_of(self, entry_id: int) -> str | None:
        """Return the name of an entry, or None when its record does not tell."""
        with translated_errors("read"):
            try:
                if is_one_time(entry_id):
                    return unpack_one_time(self.records.whole([self.client.get(self.keys.entry(entry_id))])[0] or b"").name
                return decode_definition(self.client.hget(self.keys.entry(entry_id), "def")).name
            except (MalformedRecord, NewerSchema):
                return None

    def history(self, entry_id: int, limit: int) -> tuple[list[bytes], list[bytes]]:
        """Return the last *limit* fires, newest first, and the skipped ranges, newest first."""
        with translated_errors("history"), self.client.pipeline(transaction=False) as pipe:
            pipe.lrange(self.keys.history(entry_id), 0, limit - 1)
            pipe.zrange(self.keys.skips(entry_id), 0, limit - 1, desc=True)
            fires, skips = pipe.execute()
        return fires, skips

    def quarantined(self) -> dict[str, bytes]:
        """Return why each entry in quarantine is there, by its id."""
        with translated_errors("HGETALL"):
            stored = self.client.hgetall(self.keys.bad)
        return {member.decode(): reason for member, reason in stored.items()}

    def backlog_sizes(self) -> dict[str, int]:
        """Return how many slots each open backlog has left, by its member."""
        with translated_errors("backlogs"):
            members = [member.decode() for member in self.client.zrange(self.keys.backlogs, 0, -1)]
            with self.client.pipeline(transaction=False) as pipe:
                for member in members:
                    pipe.hget(self.keys.backlog(member), "left")
                sizes = pipe.execute()
        return {member: int(size or 0) for member, size in zip(members, sizes, strict=True)}


def _raise_unless_wrong_type(replies: list[object]) -> None:
    """Raise the first error among *replies* but those of a single key that holds something else."""
    for reply in replies:
        if isinstance(reply, Exception) and not str(reply).startswith("WRONGTYPE"):
            raise reply


def _stored(entry_id: int, row: Any, score: float | None) -> Stored | None:
    due_ms = None if score is None else int(score)
    try:
        definition, version, mark, count, fired, paused, pause_note, removed = row
        if version is None and due_ms is None:
            return None
        return Stored(
            entry_id=entry_id,
            definition=definition,
            version=int(version),
            mark_ms=int(mark or 0),
            count=int(count or 0),
            fired_ms=int(fired) if fired else None,
            paused=paused == b"1",
            pause_note=(pause_note or b"").decode(errors="replace"),
            removed=removed is not None,
            due_ms=due_ms,
        )
    except (TypeError, ValueError):
        return _unreadable(entry_id, due_ms)


def _unreadable(entry_id: int, due_ms: int | None) -> Stored:
    """Return an entry whose record is gone or is none: without a definition, so that whoever reads it sees that it is malformed."""
    return Stored(
        entry_id=entry_id,
        definition=None,
        version=0,
        mark_ms=0,
        count=0,
        fired_ms=None,
        paused=False,
        pause_note="",
        removed=False,
        due_ms=due_ms,
    )


def _literal(prefix: str) -> str:
    """Return *prefix* with the signs that MATCH treats specially escaped."""
    return "".join("\\" + sign if sign in "*?[]^\\" else sign for sign in prefix)
