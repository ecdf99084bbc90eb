"""A broker apart that goes away and comes back."""

import random
from collections.abc import Callable

from celery_tw.testing.rabbit_server import RabbitServer
from tests.faults.outcome import Played
from tests.faults.rabbit_reader import RabbitReader
from tests.faults.scene import Scene, rabbit_server, scene


def killed(dice: random.Random, times: int) -> Played:
    """RabbitMQ is killed and comes back with its data: what was claimed meanwhile waits in the outbox, and copies are of the same sends."""
    return _hurt(dice, times, "RabbitMQ killed", lambda server: server.kill())


def ended(dice: random.Random, times: int) -> Played:
    """RabbitMQ is stopped as an operator does, and started again."""
    return _hurt(dice, times, "RabbitMQ stopped", lambda server: server.stop())


def connections_closed(dice: random.Random, times: int) -> Played:
    """RabbitMQ closes all connections at any moment."""
    with scene(dice, rabbit=True) as s:
        s.start(2)
        from_ms = s.now_ms()
        for _ in range(times):
            s.pause(dice.uniform(0.2, 1.5))
            reader = _reader(s)
            reader.hold()
            with s.strike("connections closed"):
                rabbit_server().control("close_all_connections", "a test does")
            reader.go_on()
        return s.judge(from_ms=from_ms, until_ms=s.settle(), copies_run=True)


def _hurt(dice: random.Random, times: int, what: str, strike: Callable[[RabbitServer], object]) -> Played:
    server = rabbit_server()
    with scene(dice, rabbit=True) as s:
        s.start(2)
        from_ms = s.now_ms()
        for _ in range(times):
            s.pause(dice.uniform(0.2, 1.5))
            reader = _reader(s)
            reader.hold()
            with s.strike(what):
                strike(server)
                s.pause(dice.uniform(0.5, 4))
                server.start()
                reader.go_on()
                s.recovered_ms()
        return s.judge(from_ms=from_ms, until_ms=s.settle(), copies_run=True)


def _reader(s: Scene) -> RabbitReader:
    assert isinstance(s.reader, RabbitReader)
    return s.reader
