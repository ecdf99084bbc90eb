"""Signs of life: how a process says that its runs are alive, and hears what has become of them.

A process that has lost a run may not know so yet, and its body goes on: such a run is among the zombies until it is laid to rest.
"""

from collections.abc import Sequence

from celery_tw.clock import RedisTime
from celery_tw.stores.redis.keys import DRAIN_KEPT_MS, RUN_KEPT_MS, Keys
from celery_tw.stores.redis.runs.guards import Guard
from celery_tw.stores.redis.scripts import Argument, RedisClient, script, translated_errors

PAGE = 500


class SignsOfLife:
    """The signs of life of the runs of one shard, whose leases last *lease_ms*."""

    def __init__(self, client: RedisClient, keys: Keys, *, redis_time: RedisTime, lease_ms: int) -> None:
        self.client = client
        self.keys = keys
        self.redis_time = redis_time
        self.lease_ms = lease_ms

    def beat(self, runs: Sequence[tuple[str, str, str, Sequence[Guard]]], *, extend: bool, processes: tuple[str, str]) -> list[str]:
        """Renew runs, each given as mid, token, task id and guards; return for each ok, drain, lost, or cancel with the reason."""
        statuses: list[str] = []
        for start in range(0, len(runs), PAGE):
            statuses += self._beat(runs[start : start + PAGE], extend=extend, processes=processes)
        return statuses

    def _beat(self, runs: Sequence[tuple[str, str, str, Sequence[Guard]]], *, extend: bool, processes: tuple[str, str]) -> list[str]:
        shard = self.keys
        keys: list[str | bytes] = [shard.running, *map(shard.drain, processes), shard.zombies]
        args: list[Argument] = [self.lease_ms, RUN_KEPT_MS, "extend" if extend else "beat"]
        for mid, token, task_id, guards in runs:
            keys += (shard.run(mid), shard.lease(mid), *(shard.guard(guard.kind, guard.key) for guard in guards))
            args += (mid, token, task_id, len(guards), *(guard.kind for guard in guards))
        now_ms, *statuses = script("beat").run(self.client, keys, args)
        self.redis_time.observe(int(now_ms))
        return [status.decode() for status in statuses]

    def flags(self, runs: Sequence[tuple[str, str]], *, processes: tuple[str, str]) -> list[str]:
        """Return what is to be told to runs, each given as mid and token, as `beat` does; renews nothing."""
        with translated_errors("flags"), self.client.pipeline(transaction=False) as pipe:
            pipe.exists(*map(self.keys.drain, processes))
            for mid, _ in runs:
                pipe.hmget(self.keys.run(mid), "token", "cancel")
            draining, *found = pipe.execute()
        return [
            "lost" if held != token.encode() else f"cancel {cancel.decode()}" if cancel is not None else "drain" if draining else "ok"
            for (_, token), (held, cancel) in zip(runs, found, strict=True)
        ]

    def drain(self, process: str) -> None:
        """Tell the runs of a worker that it shuts down; raises `StoreUnavailable`."""
        with translated_errors("SET"):
            self.client.set(self.keys.drain(process), "1", px=DRAIN_KEPT_MS)

    def lives(self, mid: str, *, silent_ms: int) -> bool:
        """Return whether a process has the run, or has lost it and was heard within *silent_ms*."""
        with translated_errors("lives"), self.client.pipeline(transaction=False) as pipe:
            owner, heard_ms, (seconds, _) = pipe.hget(self.keys.run(mid), "owner").zscore(self.keys.zombies, mid).time().execute()
        return bool(owner) or (heard_ms is not None and int(seconds) * 1000 - heard_ms < silent_ms)

    def lay_to_rest(self, mid: str) -> None:
        """Note that the body of a run has ended whose process had lost it."""
        with translated_errors("ZREM"):
            self.client.zrem(self.keys.zombies, mid)
