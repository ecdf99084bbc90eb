"""Clocks that are set forward and back, of schedulers and of the server."""

import random

from tests.faults.outcome import Played
from tests.faults.scene import scene
from tests.faults.wall_clock import WallClock
from tests.waiting import wait_until

SECOND_MS, HOUR_MS = 1000, 3_600_000
YEAR_MS = 365 * 24 * HOUR_MS
JUMPS_MS = (SECOND_MS, -SECOND_MS, HOUR_MS, -HOUR_MS, YEAR_MS, -YEAR_MS)


def of_the_leader(dice: random.Random, times: int) -> Played:
    """The leader's wall clock jumps by a second, an hour and a year, to and fro; Redis's stays."""
    with scene(dice) as s:
        clock = WallClock(s.folder)
        s.start(1, environment=clock.environment)
        from_ms = s.now_ms()
        for _ in range(times):
            for jump_ms in JUMPS_MS:
                with s.strike(f"the leader's clock jumps by {jump_ms} ms"):
                    clock.shift(jump_ms)
                    s.wait_for_fires(s.now_ms() + 1500)
        return s.judge(from_ms=from_ms, until_ms=s.settle())


def of_two_schedulers(dice: random.Random, times: int) -> Played:
    """One scheduler is an hour ahead, the other an hour behind, and the leader is killed."""
    with scene(dice) as s:
        ahead, behind = WallClock(s.folder, "ahead"), WallClock(s.folder, "behind")
        ahead.shift(HOUR_MS)
        behind.shift(-HOUR_MS)
        s.start(1, environment=ahead.environment)
        s.beat(environment=behind.environment).ready()
        from_ms, takeovers_ms = s.now_ms(), []
        for _ in range(times):
            s.store_tasks()
            leader, struck_ms = s.leader(), s.now_ms()
            s.kill(leader)
            takeovers_ms.append(s.wait_for_term_after(struck_ms))
            s.revive(leader)
        return s.judge(from_ms=from_ms, until_ms=s.settle(), takeovers_ms=takeovers_ms)


def of_the_server_within_what_is_allowed(dice: random.Random, times: int) -> Played:
    """The server's clock jumps by two seconds, forward and back."""
    with scene(dice, shifted=True) as s:
        assert s.clock is not None
        s.start(2)
        from_ms = s.now_ms()
        for _ in range(times):
            for jump_ms in (2000, -2000):
                with s.strike(f"Redis time jumps by {jump_ms} ms"):
                    s.clock.shift(jump_ms)
                    s.wait_for_fires(s.now_ms() + 1500)
        return s.judge(from_ms=from_ms, until_ms=s.settle(), guard_ms=2000 + SECOND_MS)


def of_the_server_by_an_hour(dice: random.Random, times: int) -> Played:
    """The server's clock jumps forward by an hour: nothing fires until somebody accepts it; then the hour's slots meet their policy."""
    with scene(dice, shifted=True, tolerance=5.0, misfire="latest") as s:
        assert s.clock is not None
        s.start(2)
        from_ms = s.now_ms()
        for _ in range(times):
            with s.strike("Redis time jumps by an hour"):
                s.clock.shift(HOUR_MS)
                wait_until(lambda: s.timewheel.clock.held(), 60, message="dispatch to be held")
                s.timewheel.clock.accept()
                s.recovered_ms()
        return s.judge(from_ms=from_ms, until_ms=s.settle(), note="held until accepted")


def of_the_server_back(dice: random.Random, times: int) -> Played:
    """The server's clock is set back by eight seconds: nothing fires twice, and all goes on when the time has come again."""
    with scene(dice, shifted=True) as s:
        assert s.clock is not None
        s.start(2)
        from_ms = s.now_ms()
        for _ in range(times):
            with s.strike("Redis time jumps back by 8 s") as strike:
                strike.until_ms = s.now_ms()
                s.clock.shift(-8000)
                s.wait_for_fires(strike.until_ms + 1000)
        return s.judge(from_ms=from_ms, until_ms=s.settle(), guard_ms=8000 + SECOND_MS)
