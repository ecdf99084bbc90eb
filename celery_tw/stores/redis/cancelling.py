"""Cancelling: how one-time tasks are found by what is known of them, and taken off the timetable before they fire.

A task that waits is listed under its task id in ``by-task``. Cancelling an id takes every task listed there off, in the one script that
also writes the id's tombstone: what it answers as taken does not fire, and what has fired is not among it. The tombstone is for those who
hold a task already (an outbox) or bring it a second time (a repeated store); it stops only what was stored before it.

Most ids that are revoked do not wait at all. They cost one call; an id that does wait costs three, because a script may touch no key that
its caller did not name: the first tells what is listed, the second reads it, the third takes it off.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar
from uuid import uuid4

from celery_tw.stores.redis.keys import ANSWER_KEPT_MS, CANCELLED_KEPT_MS, NEWS_KEPT, Keys, is_one_time
from celery_tw.stores.redis.lane_keys import all_lanes, lanes_of, lanes_of_all
from celery_tw.stores.redis.records import Records
from celery_tw.stores.redis.scripts import Argument, RedisClient, asked_twice, script, translated_errors

BATCH = 100
"""Tasks of one call; their records come back whole, up to 256 KiB each, within the client's time-out."""

PAGE = 500
FAR_FUTURE_MS = 2**53

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Waiting:
    """A one-time task that waits, or waited until just now, with its whole *record*.

    *due_ms* is when it was due, or came to its lane; None when it was set aside.
    """

    entry_id: int
    record: bytes
    due_ms: int | None


class Cancelling:
    """The verbs, on one shard."""

    def __init__(self, client: RedisClient, keys: Keys) -> None:
        self.client = client
        self.keys = keys
        self.records = Records(client, keys)

    def cancel(self, task_ids: Sequence[str]) -> dict[str, list[Waiting]]:
        """Take all that waits under each of *task_ids* off the timetable, and leave tombstones; return what was taken, by task id."""
        taken: dict[str, list[Waiting]] = {task_id: [] for task_id in task_ids}
        for batch in _batches(list(taken), BATCH):
            for task_id, waiting in self._cancel_batch(batch):
                taken[task_id].append(waiting)
        return taken

    def _cancel_batch(self, task_ids: Sequence[str]) -> Iterator[tuple[str, Waiting]]:
        left = self._carry_out(task_ids, {})[1]
        while left:
            known = {waiting.entry_id: waiting for waiting in self.read([entry_id for ids in left.values() for entry_id in ids][:BATCH])}
            asked = [task_id for task_id in left if not known.keys().isdisjoint(left[task_id])]
            taken, unnamed = self._carry_out(asked, known)
            yield from ((task_id, known[entry_id]) for task_id, ids in taken.items() for entry_id in ids)
            left = {task_id: ids for task_id, ids in left.items() if task_id not in asked} | unnamed

    def _carry_out(self, task_ids: Sequence[str], known: Mapping[int, Waiting]) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
        """Run CANCEL, once more when its answer is lost; return, by task id, which ids were taken and which were not named."""
        shard = self.keys
        keys: list[str | bytes] = [shard.due, shard.held, shard.bad, shard.by_task, shard.cancelled, shard.news, shard.news_seq]
        keys += (shard.answer(uuid4().hex), *map(shard.entry, known))
        keys += lanes_of_all(shard, (waiting.record for waiting in known.values()))
        args: list[Argument] = [len(task_ids), CANCELLED_KEPT_MS, ANSWER_KEPT_MS, NEWS_KEPT, *task_ids, *known]
        _, *reply = asked_twice(lambda: script("cancel").run(self.client, keys, args))
        return _by_task(task_ids, reply[::2]), _by_task(task_ids, reply[1::2])

    def read(self, entry_ids: Sequence[int]) -> list[Waiting]:
        """Return the one-time tasks of *entry_ids* as they stand; one whose record has gone has an empty one."""
        if not entry_ids:
            return []
        members = [str(entry_id) for entry_id in entry_ids]
        with translated_errors("read"), self.client.pipeline(transaction=False) as pipe:
            pipe.mget([self.keys.entry(entry_id) for entry_id in entry_ids])
            pipe.zmscore(self.keys.due, members).hmget(self.keys.held, members)
            records, scores, held = pipe.execute()
        found = [
            Waiting(entry_id, record or b"", _due_ms(score, held_ms))
            for entry_id, record, score, held_ms in zip(entry_ids, self.records.whole(records), scores, held, strict=True)
        ]
        return self._looked_up_in_lanes(found)

    def _looked_up_in_lanes(self, found: list[Waiting]) -> list[Waiting]:
        """Return *found* with the moments at which those came that wait in lanes, for their due times."""
        lost = {waiting.entry_id: lanes_of(self.keys, waiting.record) for waiting in found if waiting.due_ms is None}
        asked = [(entry_id, lane) for entry_id, lanes in lost.items() for lane in lanes]
        if not asked:
            return found
        with translated_errors("ZSCORE"), self.client.pipeline(transaction=False) as pipe:
            for entry_id, lane in asked:
                pipe.zscore(lane, str(entry_id))
            scores = pipe.execute()
        since = {entry_id: int(score) for (entry_id, _), score in zip(asked, scores, strict=True) if score is not None}
        return [replace(waiting, due_ms=since.get(waiting.entry_id, waiting.due_ms)) for waiting in found]

    def listed(self, task_ids: Sequence[str]) -> dict[str, list[int]]:
        """Return the ids of what waits under each of *task_ids*."""
        found: dict[str, list[int]] = {}
        for batch in _batches(list(task_ids), PAGE):
            with translated_errors("HMGET"):
                found |= _by_task(batch, [ids or b"" for ids in self.client.hmget(self.keys.by_task, batch)])
        return found

    def pages(self) -> Iterator[list[int]]:
        """Return the ids of all one-time tasks, due, in lanes or held, page by page; what is stored meanwhile may be among them or not."""
        for key in (self.keys.due, *all_lanes(self.client, self.keys)):
            cursor_ms, cursor_member = 0, ""
            while page := script("page").run(self.client, [key], [cursor_ms, cursor_member, FAR_FUTURE_MS, PAGE]):
                cursor_ms, cursor_member = int(float(page[-1])), page[-2].decode()
                yield _one_time(page[::2])
        cursor = None
        while cursor != 0:
            with translated_errors("HSCAN"):
                cursor, held = self.client.hscan(self.keys.held, cursor or 0, count=PAGE)
            yield _one_time(held)

    def containing(self, entry_ids: Sequence[int], texts: Sequence[bytes]) -> list[int]:
        """Return those of *entry_ids*, at most about `PAGE`, whose records hold one of *texts*."""
        if not entry_ids:
            return []
        keys: list[str | bytes] = [self.keys.templates, *map(self.keys.entry, entry_ids)]
        return [int(member) for member in script("containing").run(self.client, keys, [len(entry_ids), *entry_ids, *texts])]


def _batches(ids: list[str], size: int) -> Iterator[list[str]]:
    return (ids[start : start + size] for start in range(0, len(ids), size))


def _by_task(task_ids: Sequence[str], texts: Sequence[bytes]) -> dict[str, list[int]]:
    """Return the ids in each task's text, without the tasks that have none."""
    pairs = zip(task_ids, texts, strict=True)
    return {task_id: [int(entry_id) for entry_id in text.split()] for task_id, text in pairs if text}


def _one_time(members: Iterator[bytes] | Sequence[bytes] | Mapping[bytes, bytes]) -> list[int]:
    return [entry_id for entry_id in map(int, members) if is_one_time(entry_id)]


def _due_ms(score: float | None, held_ms: bytes | None) -> int | None:
    due = score if held_ms is None else held_ms
    return None if due is None else int(due)
