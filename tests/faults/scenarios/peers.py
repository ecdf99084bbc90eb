"""celery beat and RedBeat under the same faults, judged by times alone: their messages do not say which slot they are for.

Each entry's nominal times begin with its first message. A time is served by a message within `TOLERANCE_MS`, as generous as celery-tw's own
tolerance. A repeat is a message less than half a period after the one before it. celery beat is not made for two processes; it is alone,
and started again at once when it is killed, as a supervisor does. RedBeat's lock is set to 5 s in place of its 25 minutes.
"""

import random
import signal
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise

from celery_tw.testing.ledger import Line
from celery_tw.testing.matching import match, repeats, rhythm
from tests.faults.outcome import Played
from tests.faults.scene import PATIENCE_S, Scene, scene
from tests.processes.container import ProcessContainer
from tests.waiting import wait_until

PERIOD_MS = 1000
TOLERANCE_MS = 5000
PAUSE_S = 9.0
BETWEEN_S = (2.0, 4.0)
Strike = Callable[[Scene, list[ProcessContainer], int, str], None]
BEAT, REDBEAT = "celery.beat:PersistentScheduler", "redbeat.RedBeatScheduler"


def beat_killed(dice: random.Random, times: int) -> Played:
    """celery beat is killed and started again at once."""
    return _play(dice, times, BEAT, _kill_and_restart)


def beat_paused(dice: random.Random, times: int) -> Played:
    """celery beat stands still for nine seconds."""
    return _play(dice, times, BEAT, _pause)


def redbeat_killed(dice: random.Random, times: int) -> Played:
    """The RedBeat that leads is killed; another stands by."""
    return _play(dice, times, REDBEAT, _kill_and_restart)


def redbeat_paused(dice: random.Random, times: int) -> Played:
    """The RedBeat that leads stands still for nine seconds, right after a message; another stands by."""
    return _play(dice, times, REDBEAT, _pause)


def _play(dice: random.Random, times: int, scheduler: str, strike: Strike) -> Played:
    with scene(dice, tasks=False) as s:
        s.reader.start()
        beats = [_start(s, scheduler) for _ in range(2 if scheduler == REDBEAT else 1)]
        s.wait_for_fires()
        for number in range(times):
            s.pause(dice.uniform(*BETWEEN_S))
            with s.strike(strike.__name__.strip("_")):
                strike(s, beats, number, scheduler)
            _supervise(s, beats)
        s.pause(TOLERANCE_MS / 1000 + 1)
        s.reader.stop()
        return _judge(s, read_ms=s.now_ms())


def _start(s: Scene, scheduler: str) -> ProcessContainer:
    url = s.server.url.replace("redis+socket://", "unix://").partition("?")[0]
    conf = {**s.conf, "redbeat_redis_url": url, "redbeat_lock_timeout": 5, "beat_max_loop_interval": 1}
    schedule = {grid.entry: {"task": "shop.record", "schedule": PERIOD_MS / 1000, "options": {"shadow": grid.entry}} for grid in s.grids}
    beat = s.processes.beat(scheduler=scheduler, schedule=schedule, conf=conf)
    beat.ready()
    return beat


def _kill_and_restart(s: Scene, beats: list[ProcessContainer], number: int, scheduler: str) -> None:
    leader = beats[number % len(beats)]
    leader.send(signal.SIGKILL)
    leader.wait()
    if len(beats) > 1:
        _wait_for_a_message(s)
    s.revive(leader)
    _wait_for_a_message(s)


def _pause(s: Scene, beats: list[ProcessContainer], number: int, scheduler: str) -> None:
    leader = beats[number % len(beats)]
    _wait_for_a_message(s)
    leader.send(signal.SIGSTOP)
    s.pause(PAUSE_S)
    leader.send(signal.SIGCONT)


def _supervise(s: Scene, beats: list[ProcessContainer]) -> None:
    """Start again what has ended: a RedBeat that finds its lock gone does that by itself."""
    s.pause(1)
    for beat in beats:
        if beat.status != "running":
            s.revive(beat)


def _wait_for_a_message(s: Scene) -> None:
    before = len(s.ledger.lines())
    wait_until(lambda: len(s.ledger.lines()) > before, PATIENCE_S, message="a message")


def _judge(s: Scene, *, read_ms: int) -> Played:
    came: dict[str, list[int]] = defaultdict(list)
    lines: list[Line] = s.ledger.lines()
    for line in lines:
        came[line.entry or ""].append(line.at_ms)
    matches = {
        entry: match(rhythm(min(at), PERIOD_MS, until_ms=read_ms), at, tolerance_ms=TOLERANCE_MS, read_ms=read_ms)
        for entry, at in came.items()
    }
    moments = sorted(line.at_ms for line in lines)
    return Played(
        faults=len(s.strikes),
        expected=sum(len(found.matched) + len(found.missed) for found in matches.values()),
        missed=sum(len(found.missed) for found in matches.values()),
        doubled=sum(len(repeats(at, PERIOD_MS)) for at in came.values()),
        worst_late_ms=max(at_ms - slot_ms for found in matches.values() for slot_ms, at_ms in found.matched),
        takeovers_ms=tuple(_gap_after(moments, strike.from_ms) for strike in s.strikes),
    )


def _gap_after(moments: list[int], ms: int) -> int:
    """Return the longest silence that began at most a second before *ms* and ended in the 15 s after it."""
    near = [at_ms for at_ms in moments if ms - 1000 <= at_ms <= ms + 15_000]
    return max((later - earlier for earlier, later in pairwise(near)), default=15_000)
