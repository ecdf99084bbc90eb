"""The threads around the step functions, and who looks after them."""

import threading
from collections.abc import Iterator

import pytest

from celery_tw.errors import StoreUnavailable
from celery_tw.scheduler.loops import Loop
from celery_tw.scheduler.watchdog import Watchdog
from tests.waiting import wait_until


@pytest.fixture
def stopping() -> Iterator[list[Loop]]:
    loops: list[Loop] = []
    yield loops
    for loop in loops:
        loop.stop()
        loop.join(5)


def test_a_loop_waits_as_long_as_its_step_asks_unless_it_is_woken(stopping: list[Loop]) -> None:
    steps: list[int] = []
    loop = Loop("work", lambda: steps.append(1) or 60_000)
    stopping.append(loop)

    loop.start()
    wait_until(lambda: len(steps) == 1)
    loop.wake()
    wait_until(lambda: len(steps) == 2)

    assert loop.progress >= 1


def test_a_step_that_finds_redis_away_is_tried_again(stopping: list[Loop], caplog: pytest.LogCaptureFixture) -> None:
    back = threading.Event()
    done = threading.Event()

    def step() -> int:
        if not back.is_set():
            raise StoreUnavailable("no answer")
        done.set()
        return 60_000

    loop = Loop("work", step)
    stopping.append(loop)
    loop.start()
    wait_until(lambda: loop.progress >= 2)
    back.set()

    assert done.wait(5)
    assert loop.error is None
    assert [record.getMessage() for record in caplog.records].count("work waits for Redis: no answer") == 1


def test_any_other_error_ends_the_loop_and_is_kept_for_the_supervisor(stopping: list[Loop]) -> None:
    def step() -> int:
        raise ZeroDivisionError

    loop = Loop("work", step)
    stopping.append(loop)
    loop.start()

    wait_until(lambda: loop.error is not None)

    assert isinstance(loop.error, ZeroDivisionError)


def test_a_loop_that_stands_still_is_stuck() -> None:
    loop = Loop("work", lambda: 0)
    watchdog = Watchdog((loop,), limit_ms=3000, boot_ms=0)

    looks = [watchdog.stuck(boot_ms) for boot_ms in range(500, 4000, 500)]

    assert looks[:6] == [None] * 6
    assert looks[6] is loop


def test_a_loop_that_moves_is_not() -> None:
    loop = Loop("work", lambda: 0)
    watchdog = Watchdog((loop,), limit_ms=3000, boot_ms=0)

    for boot_ms in range(0, 60_000, 1000):
        loop.make_progress()
        assert watchdog.stuck(boot_ms) is None


def test_a_process_that_was_suspended_is_not_stuck() -> None:
    loop = Loop("work", lambda: 0)
    watchdog = Watchdog((loop,), limit_ms=3000, boot_ms=0)

    assert watchdog.stuck(3_600_000) is None
