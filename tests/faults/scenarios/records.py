"""What stands in Redis is garbage, or was written by a newer version."""

import random

from celery_tw.stores.redis.keys import Keys
from tests.faults.outcome import Played
from tests.faults.scene import PATIENCE_S, Scene, scene
from tests.waiting import wait_until

VICTIMS = 5
KEYS = Keys("shop")


def malformed_entries(dice: random.Random, times: int) -> Played:
    """Some entries become garbage: they are set aside with the reason, and all others go on."""
    with scene(dice) as s:
        s.start(2)
        from_ms = s.now_ms()
        victims = dice.sample(s.grids, VICTIMS)
        with s.strike(f"{VICTIMS} entries spoiled"):
            for victim in victims:
                _spoil(s, victim.entry)
            others = [grid for grid in s.grids if grid not in victims]
            wait_until(lambda: len(s.timewheel.status().quarantined) == VICTIMS, PATIENCE_S, message="the spoiled to be set aside")
            s.grids = others
        until_ms = s.now_ms() + 2000
        s.wait_for_fires(until_ms)
        lost = [line for line in s.ledger.lines() if line.entry in {victim.entry for victim in victims}]
        assert all((line.slot_ms or 0) < until_ms for line in lost)
        slots = [*others, *(_known_until(victim, s) for victim in victims)]
        return s.judge(from_ms=from_ms, until_ms=until_ms, slots=slots, skips=False, note="set aside, told why")


def _spoil(s: Scene, name: str) -> None:
    """Write what no version of the package writes."""
    with s.connect() as client:
        entry_id = int(client.hget(KEYS.names, name))
        garbage = s.dice.choice([b"\xff\x00", b"{", b"[]", b'{"v": 1}', b'{"v": "x"}', b"null"])
        client.hset(KEYS.entry(entry_id), mapping={"def": garbage, "ver": 999})


def _known_until(grid, s: Scene):
    """Return the grid of a spoiled entry: it had to fire until it was spoiled, give or take."""
    return type(grid)(grid.entry, grid.period_ms, grid.anchor_ms, until_ms=s.strikes[0].from_ms, edge_ms=1000)


def newer_schema(dice: random.Random, times: int) -> Played:
    """A newer version has written here: no scheduler of this one leads until it is taken back, and nothing is lost meanwhile."""
    with scene(dice) as s:
        s.start(2)
        from_ms = s.now_ms()
        for _ in range(times):
            with s.strike("newer schema"), s.connect() as client:
                before = client.get(KEYS.schema)
                client.set(KEYS.schema, 999)
                s.kill(leader := s.leader())
                other = next(beat for beat in s.beats if beat is not leader)
                wait_until(lambda: "newer celery-tw" in other.logs(), PATIENCE_S, message="the other to refuse to lead")  # noqa: B023
                wait_until(lambda: s.timewheel.status().leader is None, PATIENCE_S, message="the lease of the dead to run out")
                client.set(KEYS.schema, before or b"1")
                s.revive(leader)
                s.recovered_ms()
        return s.judge(from_ms=from_ms, until_ms=s.settle())
