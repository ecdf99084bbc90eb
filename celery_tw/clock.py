"""Clock: the only place where a clock is read.

Two clocks matter. *Redis time* says when a slot is due: it is sampled with ``TIME`` and carried forward between samples by the local
boot clock, which counts suspended time and never steps. A sample is taken as the moment its reply arrived, so the estimate lags the
server by at most one reply's journey and is never early. The *boot clock* alone judges silence and trust; nothing compares wall clocks
for safety.
"""

import time
from dataclasses import dataclass
from typing import Protocol

_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """What the parts ask of a clock; a test or a simulator brings its own."""

    def boot_ms(self) -> int: ...

    def wall_ms(self) -> int: ...


class SystemClock:
    """The clocks of this machine."""

    def boot_ms(self) -> int:
        """Return ms since boot, counting suspended time; it never steps."""
        return time.clock_gettime_ns(_BOOT) // 1_000_000

    def wall_ms(self) -> int:
        """Return UTC ms by this machine's wall clock."""
        return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading of Redis time, and the boot time at which it arrived."""

    redis_ms: int
    boot_ms: int


class RedisTime:
    """Redis time, carried forward by the boot clock between samples."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._sample: Sample | None = None

    def observe(self, redis_ms: int) -> int:
        """Take a new sample and return by how many ms Redis time has stepped since the last one (negative: back)."""
        boot_ms, last = self.clock.boot_ms(), self._sample
        self._sample = Sample(redis_ms, boot_ms)
        return 0 if last is None else redis_ms - last.redis_ms - (boot_ms - last.boot_ms)

    @property
    def known(self) -> bool:
        """Whether there has been a sample."""
        return self._sample is not None

    def now_ms(self) -> int:
        """Return Redis time in UTC ms; the wall clock stands in until the first sample."""
        if self._sample is None:
            return self.clock.wall_ms()
        return self._sample.redis_ms + self.clock.boot_ms() - self._sample.boot_ms
