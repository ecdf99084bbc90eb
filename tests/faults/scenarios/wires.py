"""A network between schedulers and Redis that swallows, resets, loses answers or dawdles."""

import random
from collections.abc import Callable

from tests.faults.outcome import Played
from tests.faults.scene import LEASE_MS, PATIENCE_S, Scene, scene
from tests.faults.wire import Wire
from tests.waiting import wait_until

Strike = Callable[[Scene, Wire], object]


def parted_from_the_leader(dice: random.Random, times: int) -> Played:
    """The leader reaches Redis no more, in neither direction, for longer than its lease; the other one does."""
    return _apart(dice, times, "partition", lambda wire: wire.part())


def answers_swallowed(dice: random.Random, times: int) -> Played:
    """What the leader says arrives and is carried out; no answer comes back."""
    return _apart(dice, times, "one-way partition", lambda wire: wire.part(deaf=False))


def _apart(dice: random.Random, times: int, what: str, part: Callable[[Wire], object]) -> Played:
    """Give each of two schedulers a way of its own, and part that of the leader."""
    with scene(dice) as s, Wire(s.server.socket_path) as first, Wire(s.server.socket_path) as second:
        s.start(1, conf={"broker_url": first.url, "result_backend": first.url})
        s.beat(conf={"broker_url": second.url, "result_backend": second.url}).ready()
        ways = dict(zip((beat.pid for beat in s.beats), (first, second), strict=True))
        from_ms, takeovers_ms = s.now_ms(), []
        for _ in range(times):
            s.pause(dice.uniform(0.2, 1.5))
            leader = s.leader()
            with s.strike(what):
                struck_ms = s.now_ms()
                part(ways[leader.pid])
                takeovers_ms.append(s.wait_for_term_after(struck_ms))
                ways[leader.pid].heal()
        return s.judge(from_ms=from_ms, until_ms=s.settle(), takeovers_ms=takeovers_ms)


def flapping(dice: random.Random, times: int) -> Played:
    """The way of both schedulers comes and goes, a tenth of a second to a lease at a time."""

    def strike(s: Scene, wire: Wire) -> None:
        for _ in range(5):
            wire.part()
            s.pause(dice.uniform(0.1, LEASE_MS / 1000))
            wire.heal()
            s.pause(dice.uniform(0.1, 1))
        s.leader()

    return _hurt(dice, times, "flapping partition", strike)


def connections_reset(dice: random.Random, times: int) -> Played:
    """All connections are reset (RST) at any moment, whatever is under way."""
    return _hurt(dice, times, "RST", lambda s, wire: wire.reset())


def answers_lost(dice: random.Random, times: int) -> Played:
    """A script is carried out, and its answer and its connection are lost; any of the next forty."""

    def strike(s: Scene, wire: Wire) -> None:
        before = wire.cuts
        wire.cut_answers_to(b"EVALSHA", number=dice.randint(1, 40))
        wait_until(lambda: wire.cuts > before, PATIENCE_S, message="an answer to be lost")

    return _hurt(dice, times, "answer lost", strike)


def slow(dice: random.Random, times: int) -> Played:
    """Each question takes 100 ms longer for some seconds."""

    def strike(s: Scene, wire: Wire) -> None:
        wire.delay_s = 0.1
        s.pause(5)
        wire.delay_s = 0.0

    return _hurt(dice, times, "latency", strike)


def _hurt(dice: random.Random, times: int, what: str, strike: Strike) -> Played:
    with scene(dice) as s, Wire(s.server.socket_path) as wire:
        s.start(2, conf={"broker_url": wire.url, "result_backend": wire.url})
        from_ms = s.now_ms()
        for _ in range(times):
            s.pause(dice.uniform(0.2, 1.5))
            with s.strike(what):
                strike(s, wire)
                s.leader()
        return s.judge(from_ms=from_ms, until_ms=s.settle())
