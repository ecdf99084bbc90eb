"""Writing: what clients change in the timetable.

Each verb is one script; none decides anything. Writes of recurring entries are compare-and-set on the entry's version: whoever loses a race
reads again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from celery_tw.core.misfire import SkippedRange
from celery_tw.stores.redis.codec import SCHEMA, encode_skip
from celery_tw.stores.redis.keys import NEWS_KEPT, SKIPS_KEPT_MS, TOMBSTONE_MS, Keys, is_one_time
from celery_tw.stores.redis.lane_keys import lanes_of
from celery_tw.stores.redis.line import Call, Line, statuses
from celery_tw.stores.redis.records import Records
from celery_tw.stores.redis.scripts import Argument, RedisClient, script, translated_errors
from celery_tw.stores.redis.templates import Template, cut_record

CHUNK = 500


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


class Writing:
    """The verbs that clients have, on one shard; *records* reads what a task shares with others."""

    def __init__(self, client: RedisClient, keys: Keys, records: Records) -> None:
        self.client = client
        self.keys = keys
        self.records = records

    def put(self, writes: Sequence[RecurringWrite], *, process_start_ms: int | None = None) -> tuple[int, list[str]]:
        """Store at most `CHUNK` recurring entries; return Redis time and a status each: put, raced or older."""
        return statuses(script("put").run(self.client, *self._put_arguments(writes, process_start_ms)))

    def send_put(self, line: Line, writes: Sequence[RecurringWrite], *, process_start_ms: int | None = None) -> Call:
        """Do as `put`, on *line*."""
        return line.send("put", *self._put_arguments(writes, process_start_ms))

    def _put_arguments(self, writes: Sequence[RecurringWrite], process_start_ms: int | None) -> tuple[list[str | bytes], list[Argument]]:
        shard = self.keys
        keys: list[str | bytes] = [shard.due, shard.names, shard.static, shard.news, shard.news_seq, shard.schema, shard.bad]
        args: list[Argument] = [len(writes), SCHEMA, "" if process_start_ms is None else process_start_ms, NEWS_KEPT, SKIPS_KEPT_MS]
        for write in writes:
            entry_id = write.entry_id
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
        keys += self._lanes_of(entry_id)
        reply = script("hold").run(self.client, keys, [entry_id, "pause" if pause else "resume", NEWS_KEPT])
        return str(reply, "ascii")

    def remove(self, name: str, entry_id: int, *, process_start_ms: int | None = None) -> str:
        """Remove an entry; return removed, gone, static or older."""
        shard = self.keys
        keys: list[str | bytes] = [shard.due, shard.names, shard.static, shard.held, shard.news, shard.news_seq]
        keys += (shard.entry(entry_id), shard.tombstone(name), shard.history(entry_id), shard.skips(entry_id), shard.bad)
        kind = "once" if is_one_time(entry_id) else "recurring"
        if kind == "once":
            keys += self._lanes_of(entry_id)
        start = "" if process_start_ms is None else process_start_ms
        reply = script("remove").run(self.client, keys, [name, entry_id, kind, start, TOMBSTONE_MS, NEWS_KEPT])
        return str(reply, "ascii")

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

    def _lanes_of(self, entry_id: int) -> list[str]:
        """Return the lanes in which a one-time task may wait."""
        with translated_errors("GET"):
            record = self.client.get(self.keys.entry(entry_id))
        (whole,) = self.records.whole([record])
        return lanes_of(self.keys, whole)


def _skip_arguments(skipped: SkippedRange | None) -> tuple[Argument, Argument]:
    return ("", "") if skipped is None else (encode_skip(skipped), skipped.to_ms)
