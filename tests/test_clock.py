"""Redis time: what a slow reply is, and what a step of the clock is."""

import pytest

from celery_tw.clock import SLOW_MS, RedisTime
from celery_tw.testing.manual_clock import ManualClock

SERVER_AHEAD_MS = 1_000_000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def redis_time(clock: ManualClock) -> RedisTime:
    return RedisTime(clock)


def ask(clock: ManualClock, *, stepped_ms: int = 0) -> tuple[int, int]:
    """Return what the server answers now, and when it was asked."""
    return clock.boot_ms() + SERVER_AHEAD_MS + stepped_ms, clock.boot_ms()


def test_it_is_carried_forward_between_samples(redis_time: RedisTime, clock: ManualClock) -> None:
    redis_time.observe(5000)
    clock.advance(700)
    assert redis_time.now_ms() == 5700


@pytest.mark.parametrize("stepped_ms", [3_600_000, -3_600_000])
def test_a_step_of_the_server_is_told(redis_time: RedisTime, clock: ManualClock, stepped_ms: int) -> None:
    redis_time.observe(ask(clock)[0])
    clock.advance(1000)
    told_ms, asked_ms = ask(clock, stepped_ms=stepped_ms)
    assert redis_time.observe(told_ms, asked_ms=asked_ms) == stepped_ms
    assert redis_time.now_ms() == told_ms


def test_a_pause_before_the_reply_is_read_is_no_step_and_does_not_set_the_time_back(redis_time: RedisTime, clock: ManualClock) -> None:
    redis_time.observe(ask(clock)[0])
    clock.advance(1000)
    told_ms, asked_ms = ask(clock)
    clock.advance(5500)
    assert redis_time.observe(told_ms, asked_ms=asked_ms) == 0
    assert redis_time.now_ms() == ask(clock)[0]


def test_a_pause_before_the_very_first_reply_is_read_is_no_step_later(redis_time: RedisTime, clock: ManualClock) -> None:
    told_ms, asked_ms = ask(clock)
    clock.advance(5500)
    redis_time.observe(told_ms, asked_ms=asked_ms)
    clock.advance(1000)
    told_ms, asked_ms = ask(clock)
    assert redis_time.observe(told_ms, asked_ms=asked_ms) == 0
    assert redis_time.now_ms() == told_ms


def test_a_step_back_in_a_slow_reply_is_told_as_far_as_the_reply_does_not_explain_it(redis_time: RedisTime, clock: ManualClock) -> None:
    redis_time.observe(ask(clock)[0])
    told_ms, asked_ms = ask(clock, stepped_ms=-10_000)
    clock.advance(SLOW_MS + 1)
    assert redis_time.observe(told_ms, asked_ms=asked_ms) == -10_000
