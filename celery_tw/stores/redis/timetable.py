"""Timetable: what clients read and write of it. The leader's verbs are in ``dispatching.py``.

Each verb is one script or one pipelined read; none decides anything. Writes of recurring entries are compare-and-set on the entry's
version: whoever loses a race reads again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from celery_tw.core.misfire import SkippedRange
from celery_tw.errors import MalformedRecord, NewerSchema
from celery_tw.stores.redis.codec import SCHEMA, decode_definition, encode_skip, unpack_one_time
from celery_tw.stores.redis.keys import NEWS_KEPT, SKIPS_KEPT_MS, TOMBSTONE_MS, Keys, is_one_time
from celery_tw.stores.redis.lane_keys import lanes_of, lanes_of_all
from celery_tw.stores.redis.line import Call, Line, statuses
from celery_tw.stores.redis.records import Records
from celery_tw.stores.redis.scripts import Argument, RedisClient, script, translated_errors
from celery_tw.stores.redis.templates import Template, cut_record

CHUNK = 500


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


class RecurringWrite(NamedTuple):
    """A new or changed recurring entry; *version* is the one it was decided on, None when none was stored.

    *mark_expected_ms* is the mark it was decided on; None leaves mark and due time as they stand.
    """

    name: str
    entry_id: int
    version: int | None
    definition: bytes
    mark_ms: int
    due_ms: int | None
    mark_expected_ms: int | None = None
    skipped: SkippedRange | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OneTimeWrite:
    """A one-time task with its whole record."""

    name: str
    entry_id: int
    mid: str
    due_ms: int
    record: bytes


class Timetable:
    """The durable truth about what comes when."""

    FIELDS = ("def", "ver", "mark", "count", "fired", "paused", "pause_note", "removed")

    def __init__(self, client: RedisClient, keys: Keys) -> None:
        self.client = client
        self.keys = keys
        self.records = Records(client, keys)

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

    def put(self, writes: Sequence[RecurringWrite], *, process_start_ms: int | None = None) -> tuple[int, list[str]]:
        """Store at most `CHUNK` recurring entries; return Redis time and a status each: put, raced or older."""
        return statuses(script("put").run(self.client, *self._put_arguments(writes, process_start_ms)))

    def send_put(self, line: Line, writes: Sequence[RecurringWrite], *, process_start_ms: int | None = None) -> Call:
        """Do as `put`, on *line*."""
        return line.send("put", *self._put_arguments(writes, process_start_ms))

    def _put_arguments(self, writes: Sequence[RecurringWrite], process_start_ms: int | None) -> tuple[list[str | bytes], list[Argument]]:
        keys: list[str | bytes] = [*self._writing_keys(), self.keys.schema, self.keys.bad]
        args: list[Argument] = [len(writes), SCHEMA, "" if process_start_ms is None else process_start_ms, NEWS_KEPT, SKIPS_KEPT_MS]
        for write in writes:
            shard, entry_id = self.keys, write.entry_id
            keys.append(shard.entry(entry_id))
            args += (write.name, entry_id, write.definition, write.mark_ms, "" if write.due_ms is None else write.due_ms)
            if write.version is None and process_start_ms is None:
                args.append("new")
                continue
            keys += (shard.tombstone(write.name), shard.skips(entry_id), shard.history(entry_id))
            args += (
                "" if write.version is None else write.version,
                "" if write.mark_expected_ms is None else write.mark_expected_ms,
                *_skip_arguments(write.skipped),
            )
        return keys, args

    def put_one_time(self, writes: Sequence[OneTimeWrite]) -> tuple[int, list[str]]:
        """Store at most `CHUNK` one-time tasks; return Redis time and a status each: put, raced or fired."""
        return statuses(script("put_once").run(self.client, *self._put_one_time_arguments(writes)))

    def send_put_one_time(self, line: Line, writes: Sequence[OneTimeWrite]) -> Call:
        """Do as `put_one_time`, on *line*."""
        return line.send("put_once", *self._put_one_time_arguments(writes))

    def _put_one_time_arguments(self, writes: Sequence[OneTimeWrite]) -> tuple[list[str | bytes], list[Argument]]:
        shard = self.keys
        keys: list[str | bytes] = [shard.due, shard.names, shard.fired, shard.news, shard.news_seq, shard.schema, shard.bad, shard.held]
        keys += (shard.templates, shard.template_dues)
        dues: dict[Template, int] = {}
        stored: list[Argument] = []
        for write in writes:
            begin, cut = cut_record(write.record)
            dues[cut.template] = max(write.due_ms, dues.get(cut.template, 0))
            keys.append(shard.entry(write.entry_id))
            stored += (write.entry_id, write.name, write.mid, write.due_ms, begin + cut.rest)
        args: list[Argument] = [len(writes), SCHEMA, NEWS_KEPT, len(dues)]
        for template, due_ms in dues.items():
            args += (template.template_id, template.text, due_ms)
        return keys, args + stored

    def change(
        self,
        entry_id: int,
        *,
        version: int,
        mark_ms: int,
        due_ms: int | None,
        fields: Iterable[tuple[str, str]],
        skipped: SkippedRange | None = None,
    ) -> bool:
        """Change the state of a recurring entry as decided on *version* and *mark_ms*; return False when another write came first."""
        shard = self.keys
        keys: list[str | bytes] = [shard.due, shard.entry(entry_id), shard.skips(entry_id), shard.news, shard.news_seq]
        args: list[Argument] = [
            entry_id,
            f"{version} {mark_ms}",
            "" if due_ms is None else due_ms,
            *_skip_arguments(skipped),
            NEWS_KEPT,
            SKIPS_KEPT_MS,
        ]
        for field, value in fields:
            args += (field, value)
        return bool(script("change").run(self.client, keys, args) == b"changed")

    def hold(self, entry_id: int, *, pause: bool) -> str:
        """Pause or resume a one-time task; return changed, same or gone."""
        shard = self.keys
        keys: list[str | bytes] = [shard.due, shard.entry(entry_id), shard.held, shard.news, shard.news_seq]
        keys += lanes_of_all(shard, self.records.whole([self.read_stored(entry_id)]))
        reply = script("hold").run(self.client, keys, [entry_id, "pause" if pause else "resume", NEWS_KEPT])
        return str(reply, "ascii")

    def remove(self, name: str, entry_id: int, *, process_start_ms: int | None = None) -> str:
        """Remove an entry; return removed, gone, static or older."""
        shard = self.keys
        keys: list[str | bytes] = [shard.due, shard.names, shard.static, shard.held, shard.news, shard.news_seq]
        keys += (shard.entry(entry_id), shard.tombstone(name), shard.history(entry_id), shard.skips(entry_id), shard.bad)
        kind = "once" if is_one_time(entry_id) else "recurring"
        if kind == "once":
            keys += lanes_of_all(shard, self.records.whole([self.read_stored(entry_id)]))
        start = "" if process_start_ms is None else process_start_ms
        reply = script("remove").run(self.client, keys, [name, entry_id, kind, start, TOMBSTONE_MS, NEWS_KEPT])
        return str(reply, "ascii")

    def static_names(self) -> dict[str, int]:
        """Return the settings entries in the timetable, each with the start ms of the process that wrote it."""
        with translated_errors("HGETALL"):
            stored = self.client.hgetall(self.keys.static)
        return {name.decode(): int(start) for name, start in stored.items()}

    def static_among(self, names: Sequence[str]) -> list[str]:
        """Return those of *names* that are settings entries."""
        with translated_errors("HMGET"):
            if not self.client.hlen(self.keys.static):
                return []
            starts = self.client.hmget(self.keys.static, list(names))
        return [name for name, start in zip(names, starts, strict=True) if start is not None]

    def claim_static(self, names: Sequence[str], *, process_start_ms: int) -> None:
        """Note that a process started at *process_start_ms* stands behind the settings entries *names*, where no newer one does."""
        script("claim_static").run(self.client, [self.keys.static, self.keys.names], [process_start_ms, "claim", *names])

    def disclaim_static(self, name: str, *, process_start_ms: int) -> None:
        """Note that no settings entry is called *name* any more, unless a newer process says otherwise."""
        script("claim_static").run(self.client, [self.keys.static, self.keys.names], [process_start_ms, "disclaim", name])

    def hurry(self, entry_id: int) -> bool:
        """Let a waiting one-time task be due now; return False when it has gone."""
        shard = self.keys
        keys: list[str | bytes] = [shard.due, shard.entry(entry_id), shard.held, shard.news, shard.news_seq, shard.template_dues]
        return bool(script("hurry").run(self.client, keys, [entry_id, NEWS_KEPT]))

    def open_backlog(self, entry_id: int, *, number: int, from_ms: int, to_ms: int, first_ms: int, left: int, rate: float | None) -> int:
        """Open a backlog of past slots; return its generation, 0 when there is no such entry."""
        member, shard = f"{entry_id}:{number}", self.keys
        keys: list[str | bytes] = [shard.entry(entry_id), shard.backlogs, shard.backlog(member), shard.news, shard.news_seq]
        args: list[Argument] = [member, from_ms, to_ms, first_ms, left, "" if rate is None else repr(rate), NEWS_KEPT]
        return int(script("open_backlog").run(self.client, keys, args))

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

    def _writing_keys(self) -> tuple[str, ...]:
        shard = self.keys
        return shard.due, shard.names, shard.static, shard.news, shard.news_seq


def _skip_arguments(skipped: SkippedRange | None) -> tuple[Argument, Argument]:
    return ("", "") if skipped is None else (encode_skip(skipped), skipped.to_ms)


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
