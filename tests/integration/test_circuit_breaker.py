"""The circuit breaker, with time as a number."""

from celery_tw.integration.deferring.circuit_breaker import CircuitBreaker


def test_a_failure_turns_everyone_away_for_five_seconds_and_then_lets_one_probe() -> None:
    breaker = CircuitBreaker()
    assert breaker.allows(0)

    breaker.fail(1000)

    assert not breaker.allows(1001)
    assert not breaker.allows(5999)
    assert breaker.allows(6000)
    assert not breaker.allows(6001), "the probe is under way"


def test_each_failed_probe_doubles_the_time_up_to_a_minute() -> None:
    breaker, now_ms, waits = CircuitBreaker(), 0, []
    for _ in range(6):
        breaker.fail(now_ms)
        wait_ms = next(wait for wait in range(0, 100_000, 1000) if breaker.allows(now_ms + wait))
        waits.append(wait_ms)
        now_ms += wait_ms
    assert waits == [5000, 10_000, 20_000, 40_000, 60_000, 60_000]


def test_a_success_closes_it_and_forgets_how_long_it_was_open() -> None:
    breaker = CircuitBreaker()
    breaker.fail(0)
    breaker.fail(5000)

    breaker.succeed()

    assert breaker.allows(5001)
    breaker.fail(6000)
    assert breaker.allows(11_000)


def test_a_probe_that_never_reports_is_followed_by_another() -> None:
    breaker = CircuitBreaker()
    breaker.fail(0)
    assert breaker.allows(5000)
    assert not breaker.allows(9999)
    assert breaker.allows(10_000)


def test_a_question_whether_it_would_allow_takes_no_probe() -> None:
    breaker = CircuitBreaker()
    assert breaker.would_allow(0)
    breaker.fail(0)

    assert [breaker.would_allow(now_ms) for now_ms in (4999, 5000, 5000)] == [False, True, True]
    assert breaker.allows(5000)
    assert not breaker.would_allow(5001)
