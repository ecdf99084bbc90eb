"""Any of the faults of one kind after the other, at any moment, up to three at once."""

import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from tests.faults.outcome import Played
from tests.faults.scene import LEASE_MS, Scene, scene
from tests.faults.wire import Wire

Fault = Callable[[Scene, Wire], Iterator[None]]


@contextmanager
def _kill(s: Scene, wire: Wire) -> Iterator[None]:
    victim = s.dice.choice(s.beats)
    victim.send(signal.SIGKILL)
    victim.wait()
    yield
    s.revive(victim)


@contextmanager
def _pause(s: Scene, wire: Wire) -> Iterator[None]:
    victim = s.dice.choice([beat for beat in s.beats if beat.status == "running"])
    victim.send(signal.SIGSTOP)
    yield
    if victim.status == "running":
        victim.send(signal.SIGCONT)


@contextmanager
def _part(s: Scene, wire: Wire) -> Iterator[None]:
    wire.part(deaf=s.dice.random() < 0.5)
    yield
    wire.heal()


@contextmanager
def _stop_server(s: Scene, wire: Wire) -> Iterator[None]:
    os.kill(s.server.pid, signal.SIGSTOP)
    yield
    os.kill(s.server.pid, signal.SIGCONT)


@contextmanager
def _reset(s: Scene, wire: Wire) -> Iterator[None]:
    wire.reset()
    yield
    wire.reset()


@contextmanager
def _lose_an_answer(s: Scene, wire: Wire) -> Iterator[None]:
    wire.cut_answers_to(b"EVALSHA", number=s.dice.randint(1, 20))
    yield


FAULTS = (_kill, _pause, _part, _stop_server, _reset, _lose_an_answer)


def any_three_at_once(dice: random.Random, times: int) -> Played:
    """Up to three faults at once among three schedulers, a network and a server, again and again."""
    with scene(dice) as s, Wire(s.server.socket_path) as wire:
        s.start(3, conf={"broker_url": wire.url, "result_backend": wire.url})
        from_ms = s.now_ms()
        for _ in range(times):
            chosen = dice.sample(FAULTS, dice.randint(1, 3))
            with s.strike(" and ".join(fault.__name__.strip("_") for fault in chosen)):
                with ExitStack() as stack:
                    for fault in chosen:
                        stack.enter_context(fault(s, wire))
                        s.pause(dice.uniform(0, 0.5))
                    s.pause(dice.uniform(0.2, 1.5) * LEASE_MS / 1000)
                s.recovered_ms()
        return s.judge(from_ms=from_ms, until_ms=s.settle())
