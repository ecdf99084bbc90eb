"""Clock: the only place where a clock is read.

Two clocks matter. *Redis time* says when a slot is due: it is sampled with ``TIME`` and carried forward between samples by the local
boot clock, which counts suspended time and never steps. A sample is taken as the moment its reply arrived, so the estimate lags the
server by at most one reply's journey and is never early. When that journey was long, as it is for a process that was paused in it, the
sample says little: it replaces none that it agrees with, and what it was late is no step of the clock. The *boot clock* alone judges
silence and trust; nothing compares wall clocks for safety.
"""

import time
from dataclasses import dataclass
from typing import Protocol

SLOW_MS = 250
"""A reply that was longer on its way tells the time less well than the last one does, carried forward."""

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
    """One reading of Redis time, the boot time at which it arrived, and how long it may have been on its way."""

    redis_ms: int
    boot_ms: int
    journey_ms: int


class RedisTime:
    """Redis time, carried forward by the boot clock between samples."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._sample: Sample | None = None

    def observe(self, redis_ms: int, *, asked_ms: int | None = None) -> int:
        """Take a sample asked for at *asked_ms* by the boot clock, or just now.

        Returns by how many ms Redis time has stepped since the last one, beyond what slow replies explain (negative: back).
        """
        boot_ms, last = self.clock.boot_ms(), self._sample
        journey_ms = 0 if asked_ms is None else boot_ms - asked_ms
        step_ms = 0 if last is None else redis_ms - last.redis_ms - (boot_ms - last.boot_ms)
        if last is not None and journey_ms > SLOW_MS and -journey_ms <= step_ms <= 0:
            return 0
        self._sample = Sample(redis_ms, boot_ms, journey_ms)
        if last is not None and step_ms > 0:
            return max(0, step_ms - last.journey_ms)
        return min(0, step_ms + journey_ms)

    @property
    def known(self) -> bool:
        """Whether there has been a sample."""
        return self._sample is not None

    def now_ms(self) -> int:
        """Return Redis time in UTC ms; the wall clock stands in until the first sample."""
        if self._sample is None:
            return self.clock.wall_ms()
        return self._sample.redis_ms + self.clock.boot_ms() - self._sample.boot_ms
