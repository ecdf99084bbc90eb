"""Finished runs are remembered as digests in sets, one for each period of ``done_kept_ms`` and each of 256 buckets: some sixty bytes a
run, instead of a key of its own.

A run is looked for in this period and the one before, so it is remembered for one to two of them. The caller computes the period from Redis
time as it knows it; the script refuses a wrong one, and the caller, who knows better then, asks again.
"""

from collections.abc import Callable
from hashlib import blake2b
from typing import Any

from celery_tw.clock import RedisTime
from celery_tw.errors import StoreUnavailable
from celery_tw.stores.redis.keys import Keys


def digest_of(mid: str) -> bytes:
    """Return what is remembered of a mid."""
    return blake2b(mid.encode(), digest_size=12).digest()


class FinishedRuns:
    """Where finished runs are remembered, each for *kept_ms* at least."""

    def __init__(self, keys: Keys, redis_time: RedisTime, *, kept_ms: int) -> None:
        self._keys = keys
        self._redis_time = redis_time
        self.kept_ms = kept_ms

    def key(self, period: int, digest: bytes) -> str:
        """Return the set in which a run that ended in *period* is remembered."""
        return self._keys.done(period, f"{digest[0]:02x}")

    def keys(self, period: int, digest: bytes) -> tuple[str, str]:
        """Return the sets in which a run that has ended is remembered, in *period* or in the one before."""
        bucket = f"{digest[0]:02x}"
        return self._keys.done(period, bucket), self._keys.done(period - 1, bucket)

    def period(self) -> int:
        """Return the present period."""
        return self._redis_time.now_ms() // self.kept_ms

    def ask(self, call: Callable[[int], list[Any]]) -> list[Any]:
        """Return what *call* answers for the present period, without the time, with the verdict as text."""
        for _ in range(3):
            now_ms, verdict, *facts = call(self.period())
            self._redis_time.observe(int(now_ms))
            if verdict != b"period":
                return [verdict.decode(), *facts]
        raise StoreUnavailable("the clock of Redis does not stand still long enough to be read")
