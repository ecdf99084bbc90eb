"""Ejecting: one-time tasks leave the timetable for their queues before they are due."""

from collections.abc import Iterator
from dataclasses import dataclass

from celery_tw.core.command import Command
from celery_tw.stores.redis.codec import OneTime
from celery_tw.stores.redis.keys import NEWS_KEPT, Keys, is_one_time
from celery_tw.stores.redis.lane_keys import all_lanes
from celery_tw.stores.redis.records import Records
from celery_tw.stores.redis.scripts import Argument, RedisClient, asked_twice, script, translated_errors

PAGE = 100
"""Records of one read; they come whole, up to 256 KiB each, within the client's time-out."""

FAR_FUTURE_MS = 2**53


@dataclass(frozen=True, slots=True)
class DueTask:
    """A one-time task that waits for *due_ms*, or in a lane since then; its whole *record* is empty when it has gone meanwhile.

    *key* is where it waits.
    """

    entry_id: int
    due_ms: int
    record: bytes
    key: str


class Ejecting:
    """The verbs, on one shard."""

    def __init__(self, client: RedisClient, keys: Keys) -> None:
        self.client = client
        self.keys = keys
        self.records = Records(client, keys)

    def count(self) -> tuple[int, int]:
        """Return how many one-time tasks wait for their due time, and how many are paused."""
        with translated_errors("HLEN"):
            paused = int(self.client.hlen(self.keys.held))
        return sum(len(ids) for _, ids in self._ids()), paused

    def pages(self) -> Iterator[list[DueTask]]:
        """Return the one-time tasks that wait for their due time, the next one first, then those in lanes, page by page."""
        for key, due in self._ids():
            with translated_errors("MGET"):
                records = self.client.mget([self.keys.entry(entry_id) for entry_id, _ in due])
            whole = self.records.whole(records)
            yield [DueTask(entry_id, due_ms, record or b"", key) for (entry_id, due_ms), record in zip(due, whole, strict=True)]

    def _ids(self) -> Iterator[tuple[str, list[tuple[int, int]]]]:
        """Return where one-time tasks wait, with pairs of their ids and due ms, page by page."""
        for key in (self.keys.due, *all_lanes(self.client, self.keys)):
            cursor_ms, cursor_member = 0, ""
            while page := script("page").run(self.client, [key], [cursor_ms, cursor_member, FAR_FUTURE_MS, PAGE]):
                cursor_ms, cursor_member = int(float(page[-1])), page[-2].decode()
                pairs = [(int(member), int(float(score))) for member, score in zip(page[::2], page[1::2], strict=True)]
                one_time = [pair for pair in pairs if is_one_time(pair[0])]
                if one_time:
                    yield key, one_time

    def eject(self, entry_id: int, task: OneTime, *, due_ms: int, push: Command | None, key: str = "") -> str:
        """Take *task* off, as it was read, together with its *push* (None: it has been published); return ejected, gone or moved.

        *key* is where it waits, by default among what is due.

        A call whose answer was lost is repeated once, and then answers gone.
        """
        shard = self.keys
        keys: list[str | bytes] = [key or shard.due, shard.names, shard.by_task, shard.fired, shard.news, shard.news_seq]
        keys += (shard.entry(entry_id), *([push.key] if push else []))
        args: list[Argument] = [entry_id, due_ms, task.mid, task.name, task.task_id, push.payload if push else "", NEWS_KEPT]
        return str(asked_twice(lambda: script("eject").run(self.client, keys, args)), "ascii")
