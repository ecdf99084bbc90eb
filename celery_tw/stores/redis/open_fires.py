"""Open fires: which tasks of an entry's fires have not ended, counted in Redis, so that every leader and every worker sees the same.

::

    FIRE, DRAIN ─▶ queued ──▶ running ──▶ (gone)
                     ▲           │ retry, another task of its canvas: queued again
                     └───────────┘

The hash ``open:<entry name>`` has a field for each task: its state, and until which moment, in Redis ms, it counts. *Queued* is what no
worker has taken up, or what waits for a retry; its moment is far away, for queues are long. *Running* is what a process keeps alive; its
moment is near and moved on as long as the process lives. So a message that was lost, and a process that was killed, are forgotten by
themselves.

The end of an entry's last open task wakes the slot that waits for it, if one does.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from celery_tw.core.overlap import Standing
from celery_tw.stores.redis.keys import NEWS_KEPT, Keys
from celery_tw.stores.redis.scripts import RedisClient, asked_twice, script, translated_errors


class OpenFires:
    """The verbs, on one shard."""

    def __init__(self, client: RedisClient, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def look(self, entries: Sequence[tuple[int, str]]) -> dict[int, Standing]:
        """Return what is left of the fires of each of *entries*, pairs of id and name, by id.

        Where something else than counts is stored nothing counts, so that it harms its own entry alone.
        """
        with translated_errors("look"), self.client.pipeline(transaction=False) as pipe:
            pipe.time()
            for entry_id, name in entries:
                pipe.hgetall(self.keys.open_fires(name)).zscore(self.keys.backlogs, waiting_member(entry_id))
            time, *found = pipe.execute(raise_on_error=False)
            if isinstance(time, Exception):
                raise time
        seconds, micros = time
        now_ms = int(seconds) * 1000 + int(micros) // 1000
        pairs = zip(entries, found[::2], found[1::2], strict=True)
        return {entry_id: _standing(tasks, waits, now_ms) for (entry_id, _), tasks, waits in pairs}

    def queue(self, name: str, task_id: str, *, kept_ms: int) -> None:
        """Note that a task of a fire of the entry *name* waits for a worker; without further news it counts for *kept_ms*."""
        self._note([(name, task_id)], "queued", kept_ms)

    def begin(self, name: str, task_id: str, *, kept_ms: int) -> None:
        """Note that a task runs; it counts for *kept_ms* unless `keep` is called meanwhile."""
        self._note([(name, task_id)], "running", kept_ms)

    def keep(self, tasks: Iterable[tuple[str, str]], *, kept_ms: int) -> None:
        """Let running tasks, pairs of entry name and task id, count on; what has ended or waits again is left as it is."""
        self._note(tasks, "kept", kept_ms)

    def _note(self, tasks: Iterable[tuple[str, str]], state: str, kept_ms: int) -> None:
        by_name: dict[str, list[str]] = {}
        for name, task_id in tasks:
            by_name.setdefault(name, []).append(task_id)
        for name, task_ids in by_name.items():
            script("note_open_fire").run(self.client, [self.keys.open_fires(name)], [state, kept_ms, *task_ids])

    def end(self, name: str, *task_ids: str) -> None:
        """Note that tasks have ended, for good."""
        self._strike(name, task_ids, "")

    def strike_queued(self, name: str, task_ids: Sequence[str]) -> None:
        """Count tasks no longer that no worker has taken up, because none will."""
        self._strike(name, task_ids, "queued")

    def _strike(self, name: str, task_ids: Sequence[str], only: str) -> None:
        shard = self.keys
        keys: list[str | bytes] = [shard.open_fires(name), shard.names, shard.backlogs, shard.news, shard.news_seq]
        asked_twice(lambda: script("end_open_fire").run(self.client, keys, [name, only, NEWS_KEPT, *task_ids]))


def waiting_member(entry_id: int) -> str:
    """Return the name of the backlog that holds the one slot of an entry that waits for the end of its fires."""
    return f"{entry_id}:waits"


def _standing(tasks: Any, waits: Any, now_ms: int) -> Standing:
    there = () if isinstance(tasks, Exception) else tuple(task.decode() for task, fact in tasks.items() if _until_ms(fact) > now_ms)
    return Standing(there, isinstance(waits, float))


def _until_ms(fact: bytes) -> int:
    """Return until when a task counts; what cannot be read does not count."""
    _, _, until = fact.partition(b" ")
    return int(until) if until.isdigit() else 0
