"""Too much at once: a million tasks at one instant, everything that an hour missed, schedules that are bombs."""

import random
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from benchmarks.filling import hold_in_store
from celery_tw import InvalidEntry, InvalidSchedule, cron, every
from celery_tw.stores.redis.keys import Keys
from celery_tw.testing.slots import Grid
from tests.faults.outcome import Played
from tests.faults.scene import scene
from tests.waiting import wait_until

KEYS = Keys("shop")
DRAIN_S = 600
LEAD_MS = 40_000
HASTEN = """
local ids = redis.call('ZRANGE', KEYS[1], 0, -1)
for first = 1, #ids, 1000 do
  local dues = {}
  for i = first, math.min(first + 999, #ids) do
    dues[#dues + 1] = ARGV[1]
    dues[#dues + 1] = ids[i]
  end
  redis.call('ZADD', KEYS[1], unpack(dues))
end
"""
"""How long storing takes depends on the machine: so all is stored for tomorrow, and then made due soon, before anybody schedules."""

OUTAGE_S = 20.0
MINUTE_LIST = ",".join(str(number % 60) for number in range(200_000))


def one_instant(dice: random.Random, times: int) -> Played:
    """A million tasks, or *times* thousand, are due at one instant while an entry ticks on another queue: how long the herd takes, and how
    late the tick is."""
    herd = 1000 * times
    tick = Grid("tick", 100)
    with scene(dice, grids=[tick], queue="ticks", tasks=False) as s:
        with s.connect(socket_timeout=120) as client:
            s.app.task(name="benchmarks.work", shared=False)(_work)
            hold_in_store(s.app, client, herd, first=datetime.now(UTC) + timedelta(days=1), spread_s=0.001)
            at_ms = s.now_ms() + LEAD_MS
            client.eval(HASTEN, 1, KEYS.due, at_ms)
        s.start(2, watch_claims=False)
        (leader, epoch), from_ms = (s.leader(), s.timewheel.status().epoch), s.now_ms()
        wait_until(lambda: s.now_ms() > at_ms, 2 * LEAD_MS / 1000, message="the instant")
        with s.strike(f"{herd:,} tasks due at one instant"):
            wait_until(lambda: s.timewheel.status().waiting <= 1, DRAIN_S, message="the herd to be drained")
            drained_s = (s.now_ms() - at_ms) / 1000
        status, until_ms = s.timewheel.status(), s.settle()
        assert (status.epoch, s.leader()) == (epoch, leader), "the lease was lost"
        played = s.judge(from_ms=from_ms, until_ms=until_ms)
        with s.connect() as client:
            assert client.llen("celery") >= herd, "some of the herd are missing"
    return Played.sum(
        [played], note=f"{herd:,} drained in {drained_s:.1f} s, the lease kept; the tick at most {played.worst_late_ms} ms late"
    )


def _work(number: int, **options: Any) -> None:
    """Stand for the task of the herd."""


def outage(dice: random.Random, times: int) -> Played:
    """Nobody schedules for a time that is long beside the periods (an hour, scaled): each policy accounts for each slot."""
    grids = [Grid(f"{policy}-{number}", 100) for policy in ("latest", "skip", "catch_up") for number in range(5)]
    with scene(dice, grids=grids, tolerance=1.0) as s:
        schedule = s.schedule()
        for grid in grids:
            schedule[grid.entry]["options"]["tw"]["misfire"] = grid.entry.partition("-")[0]
        s.start(1, schedule=schedule, conf={"tw_catch_up_rate": 1000.0})
        from_ms = s.now_ms()
        for _ in range(times):
            with s.strike(f"nobody schedules for {OUTAGE_S} s"):
                (leader,) = s.beats
                leader.send(15)
                leader.wait(30)
                s.pause(OUTAGE_S)
                s.revive(leader)
                s.recovered_ms()
                s.wait_until_drained(120)
        return s.judge(from_ms=from_ms, until_ms=s.settle(), note="late is what the outage made late")


def bombs(dice: random.Random, times: int) -> Played:
    """Schedules that would fire without end, or cost seconds to read, are refused where they are written, at once."""
    tried = (
        lambda: every(timedelta(microseconds=1)),
        lambda: every(0),
        lambda: cron(f"{MINUTE_LIST} * * * *"),
        lambda: cron("0 0 30 2 *"),
        lambda: cron("*" * 100_000),
    )
    started_s = time.process_time()
    refused = [_is_refused(bomb) for bomb in tried]
    cost_ms = 1000 * (time.process_time() - started_s)
    violations = tuple(f"bomb: number {number} was taken" for number, was in enumerate(refused) if not was)
    return Played(faults=len(tried), expected=0, violations=violations, note=f"all refused in {cost_ms:.1f} ms of CPU together")


def _is_refused(bomb) -> bool:
    try:
        bomb()
    except (InvalidSchedule, InvalidEntry):
        return True
    return False
