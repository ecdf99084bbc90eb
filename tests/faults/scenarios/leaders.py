"""Leaders that die or stand still, at each point of a dispatch and at any moment."""

import random
import signal
from typing import Any

from tests.faults.outcome import Played
from tests.faults.scene import LEASE_MS, Scene, environment, scene
from tests.processes.container import ProcessContainer
from tests.waiting import wait_until

AT_ONCE = 20
PASSES = {"K6": (5, 9), "K7": (1, 1)}
"""How often the leader comes to a place before it is struck there; a dispatch of these entries comes some fifty times a second."""


def killed_at(place: str, dice: random.Random, times: int, *, rabbit: bool = False) -> Played:
    """The leader is killed at *place*; a stand-by takes over."""
    return _at(place, "kill", dice, times, rabbit)


def stopped_at(place: str, dice: random.Random, times: int, *, rabbit: bool = False) -> Played:
    """The leader stands still at *place* for longer than its lease, and goes on when another one leads."""
    return _at(place, "stop", dice, times, rabbit)


def _at(place: str, what: str, dice: random.Random, times: int, rabbit: bool) -> Played:
    with scene(dice, rabbit=rabbit) as s:
        s.start(1)
        from_ms = s.now_ms()
        takeovers_ms = [took_ms for _ in range(times) if (took_ms := strike_at(s, place, what)) is not None]
        until_ms = s.settle()
        return s.judge(from_ms=from_ms, until_ms=until_ms, takeovers_ms=takeovers_ms, copies_run=rabbit)


def strike_at(s: Scene, place: str, what: str, **settings: Any) -> int | None:
    """Let a scheduler that is armed lead and strike itself, while one stands by that is there in the end.

    Returns how long after the strike that one claimed; None when the strike came before it stood by.
    """
    (before,) = s.beats
    passes = s.dice.randint(*PASSES.get(place, (150, 400)))
    with environment({"TW_FAILPOINT": f"{place}:{what}:{passes}"}):
        armed = s.beat(**settings)
    armed.ready()
    end(before)
    s.beats.remove(before)
    wait_until(lambda: s.leader() is armed or _has_died(armed), 60, message="the armed scheduler to lead")
    s.beat(**settings).ready()
    s.store_tasks()
    struck = _has_died if what == "kill" else _stands_still
    too_early = struck(armed)
    with s.strike(f"{what} at {place}") as strike:
        if place == "K7":
            armed.send(signal.SIGTERM)
        wait_until(lambda: struck(armed), 60, message=f"the leader to come to {place}")
        strike.from_ms = s.now_ms()
        if too_early:  # the other one may have claimed by now
            s.leader(other_than=armed)
        took_ms = None if too_early else s.wait_for_term_after(strike.from_ms)
        if what == "stop":
            armed.send(signal.SIGCONT)
            _see_that_it_yields(armed, place)
    s.beats.remove(armed)
    return took_ms


def _see_that_it_yields(armed: ProcessContainer, place: str) -> None:
    """Wait until the one that stood still knows, and end it; at K7 it was ending anyway."""
    if place != "K7":
        wait_until(lambda: "no longer leading" in armed.logs(), 30, message="the old leader to find that it was replaced")
    end(armed)


def end(beat: ProcessContainer) -> None:
    if beat.status == "running":
        beat.send(signal.SIGTERM)
        beat.wait(30)


def _has_died(beat: ProcessContainer) -> bool:
    return beat.status != "running"


def _stands_still(beat: ProcessContainer) -> bool:
    """Return whether the kernel says that the process is stopped."""
    with open(f"/proc/{beat.pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] == "T"


def random_kills(dice: random.Random, times: int) -> Played:
    """The leader of three is killed at any moment, again and again."""
    with scene(dice) as s:
        s.start(3)
        from_ms = s.now_ms()
        takeovers_ms = [_random_kill(s) for _ in range(times)]
        until_ms = s.settle()
        return s.judge(from_ms=from_ms, until_ms=until_ms, takeovers_ms=takeovers_ms)


def _random_kill(s: Scene) -> int:
    s.pause(s.dice.uniform(0.2, 1.5))
    leader = s.leader()
    s.store_tasks()
    struck_ms = s.now_ms()
    s.kill(leader)
    took_ms = s.wait_for_term_after(struck_ms)
    leader.start()
    return took_ms


def random_pauses(dice: random.Random, times: int) -> Played:
    """The leader of two is stopped at any moment, for one to three leases, and goes on."""
    with scene(dice) as s:
        s.start(2)
        from_ms = s.now_ms()
        replaced = [took_ms for _ in range(times) if (took_ms := _random_pause(s)) is not None]
        until_ms = s.settle()
        note = f"{len(replaced)} of {times} pauses were long enough for another to lead"
        return s.judge(from_ms=from_ms, until_ms=until_ms, takeovers_ms=replaced, note=note)


def _random_pause(s: Scene) -> int | None:
    """Return how long the other took to lead, or None when the pause was over before."""
    s.pause(s.dice.uniform(0.2, 1.5))
    leader = s.leader()
    with s.strike("pause"):
        struck_ms = s.now_ms()
        leader.send(signal.SIGSTOP)
        s.pause(s.dice.uniform(1.0, 3.0) * LEASE_MS / 1000)
        leader.send(signal.SIGCONT)
        later = [at_ms for at_ms in list(s.claims.terms_ms.values()) if at_ms > struck_ms]
    return later[0] - struck_ms if later else None


def many_at_once(dice: random.Random, times: int) -> Played:
    """Twenty schedulers start at once, and the leader is killed: one leads at a time."""
    with scene(dice) as s:
        for _ in range(AT_ONCE - 1):
            s.beat()
        s.start(1)
        wait_until(lambda: len(s.timewheel.status().members) == AT_ONCE, 120, message="all to have started")
        from_ms = s.now_ms()
        takeovers_ms = []
        for _ in range(times):
            s.store_tasks()
            struck_ms = s.now_ms()
            s.kill(s.leader())
            takeovers_ms.append(s.wait_for_term_after(struck_ms))
        until_ms = s.settle()
        return s.judge(from_ms=from_ms, until_ms=until_ms, takeovers_ms=takeovers_ms, note=f"{AT_ONCE} schedulers")


def dawdling(dice: random.Random, times: int) -> Played:
    """Each claim and each renewal of the leader takes 200 ms longer, then a claim fails for want of Redis."""
    played = []
    for asked in ("K1:delay:200ms", "K6:delay:200ms", "K0:raise:StoreUnavailable:5", "K1:raise:StoreUnavailable:5"):
        with scene(dice) as s:
            s.start(1, environment={"TW_FAILPOINT": asked})
            from_ms = s.now_ms()
            with s.strike(asked):
                until_ms = s.settle(for_ms=3000)
            played.append(s.judge(from_ms=from_ms, until_ms=until_ms))
    return Played.sum(played)
