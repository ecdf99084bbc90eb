"""Runs under way: what the leader, people and other processes see of them."""

from collections.abc import Iterable

from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.redis.runs.record import Record, read_record
from celery_tw.stores.redis.scripts import RedisClient, script, translated_errors

PAGE = 500


class RunsUnderWay:
    """The runs of one shard that have begun, or have their message on record, and have not ended."""

    def __init__(self, client: RedisClient, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def counters(self) -> dict[str, str]:
        """Return the counter of each run that is under way, by mid."""
        with translated_errors("HGETALL"):
            return {mid.decode(): counter.decode() for mid, counter in self.client.hgetall(self.keys.running).items()}

    def awaited(self) -> dict[str, str]:
        """Return, by mid, the long runs whose message was sent again: how often once more, and since when in ms, as RESEND compares it."""
        with translated_errors("HGETALL"):
            return {mid.decode(): sends.decode() for mid, sends in self.client.hgetall(self.keys.awaited).items()}

    def forget(self, mid: str) -> None:
        """Strike a run that left no record out of those under way."""
        with translated_errors("HDEL"):
            self.client.hdel(self.keys.running, mid)

    def stop_awaiting(self, *mids: str) -> None:
        """Strike runs out of those that are awaited."""
        if mids:
            with translated_errors("HDEL"):
                self.client.hdel(self.keys.awaited, *mids)

    def read(self, mids: Iterable[str]) -> list[Record]:
        """Return the records of *mids*, without those that are gone."""
        mids = list(mids)
        with translated_errors("HGETALL"), self.client.pipeline(transaction=False) as pipe:
            for mid in mids:
                pipe.hgetall(self.keys.run(mid))
                pipe.hget(self.keys.running, mid)
            replies = pipe.execute() if mids else []
        pairs = zip(mids, replies[::2], replies[1::2], strict=True)
        return [read_record(mid, found, counter) for mid, found, counter in pairs if found]

    def ask_to_cancel(self, task_id: str, reason: str) -> list[str]:
        """Ask the runs of a task that are under way to stop; return their mids."""
        asked = []
        mids = list(self.counters())
        for start in range(0, len(mids), PAGE):
            page = mids[start : start + PAGE]
            with translated_errors("HGET"), self.client.pipeline(transaction=False) as pipe:
                for mid in page:
                    pipe.hget(self.keys.run(mid), "id")
                found = pipe.execute()
            for mid in (mid for mid, held in zip(page, found, strict=True) if held == task_id.encode()):
                if script("cancel_run").run(self.client, [self.keys.run(mid)], [task_id, reason]) == b"asked":
                    asked.append(mid)
        return asked
