"""What a retry policy says: each rule by example, and the delays for any numbers."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_tw.core.retry import Retry
from celery_tw.errors import ImproperlyConfigured

POLICY = Retry(max=5, base=2, cap=20)


@pytest.mark.parametrize(("retries", "longest_s"), [(0, 2), (1, 4), (2, 8), (3, 16), (4, 20), (1000, 20)])
def test_the_longest_delay_doubles_up_to_the_cap(retries: int, longest_s: float) -> None:
    assert POLICY.delay_ms(retries=retries, draw=1.0) == longest_s * 1000


def test_full_jitter_takes_any_share_of_the_longest_delay() -> None:
    assert [POLICY.delay_ms(retries=1, draw=draw) for draw in (0.0, 0.25, 0.5)] == [0, 1000, 2000]


def test_without_jitter_the_draw_does_not_count() -> None:
    steady = Retry(base=2, jitter="none")
    assert {steady.delay_ms(retries=1, draw=draw) for draw in (0.0, 0.5, 1.0)} == {4000}


@given(
    base=st.floats(0, 1e6),
    cap=st.floats(0, 1e6),
    retries=st.integers(0, 10_000),
    draw=st.floats(0, 1),
    jitter=st.sampled_from(["full", "none"]),
)
def test_no_delay_is_below_zero_or_above_the_cap(base: float, cap: float, retries: int, draw: float, jitter: Any) -> None:
    policy = Retry(base=base, cap=cap, jitter=jitter)
    assert 0 <= policy.delay_ms(retries=retries, draw=draw) <= round(cap * 1000)


def test_attempts_are_counted_and_none_is_without_end() -> None:
    assert [POLICY.allows(retries=retries) for retries in (0, 4, 5)] == [True, True, False]
    assert Retry(max=None).allows(retries=10**9)
    assert not Retry(max=0).allows(retries=0)


def test_the_nearest_type_of_an_error_names_its_policy() -> None:
    never, soon = Retry(max=0), Retry(base=0.1)
    policy = Retry(on={OSError: never, ConnectionError: soon})

    assert policy.towards(FileNotFoundError()) == never
    assert policy.towards(ConnectionResetError()) == soon
    assert policy.towards(ValueError()) == policy


def test_age_and_budget_hold_for_every_type() -> None:
    policy = Retry(on={OSError: Retry(max=9), ConnectionError: Retry(max_age=5)}, max_age=60, budget=(10, 1))

    assert policy.towards(OSError()) == Retry(max=9, max_age=60, budget=(10, 1))
    assert policy.towards(ConnectionError()) == Retry(max_age=5, budget=(10, 1))


def test_what_would_begin_after_the_greatest_age_comes_too_late() -> None:
    policy = Retry(max_age=60)
    assert [policy.outlives(age_ms=age_ms) for age_ms in (0, 60_000, 60_001)] == [True, True, False]
    assert Retry().outlives(age_ms=10**15)


def test_an_age_counts_wherever_it_is_named() -> None:
    assert Retry(max_age=1).counts_age
    assert Retry(on={OSError: Retry(max_age=1)}).counts_age
    assert Retry(on={OSError: Retry(), ValueError: Retry(max_age=1)}).counts_age
    assert not Retry(on={OSError: Retry()}).counts_age
    assert not Retry().counts_age


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"max": -1}, "max: expected a whole number of retries"),
        ({"max": True}, "max"),
        ({"max": 1.5}, "max"),
        ({"base": -1}, "base: expected a number of seconds"),
        ({"base": float("nan")}, "base"),
        ({"cap": "10"}, "cap"),
        ({"jitter": "half"}, "jitter: expected one of 'full', 'none', got 'half'"),
        ({"max_age": -1}, "max_age"),
        ({"budget": 100}, "budget: expected a number of retries and a number of seconds"),
        ({"budget": (0, 1)}, "budget"),
        ({"budget": (10, 0)}, "budget"),
        ({"on": [OSError]}, "on: expected a mapping"),
        ({"on": {"OSError": Retry()}}, "on: expected a mapping"),
        ({"on": {OSError: 3}}, "on: expected a mapping"),
        ({"on": {KeyboardInterrupt: Retry()}}, "on: expected a mapping"),
        ({"on": {OSError: Retry(budget=(1, 1))}}, r"on\[OSError\]: expected a policy without on and budget"),
    ],
)
def test_a_wrong_policy_is_refused_by_name(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=match):
        Retry(**options)


def test_a_time_may_be_as_long_as_a_leap_year_and_no_longer() -> None:
    year_s = 366 * 86_400.0
    assert Retry(base=year_s, cap=year_s, max_age=year_s, budget=(1, year_s)).cap == year_s
    for options in ({"base": year_s + 1}, {"cap": year_s + 1}, {"max_age": year_s + 1}, {"budget": (1, year_s + 1)}):
        with pytest.raises(ImproperlyConfigured):
            Retry(**options)  # type: ignore[arg-type]


def test_what_is_left_of_an_age_ends_at_nothing() -> None:
    assert [Retry(max_age=1.5).left_ms(age_ms=age_ms) for age_ms in (0, 1, 1499, 1500, 1501)] == [1500, 1499, 1, 0, 0]
    assert Retry().left_ms(age_ms=5) is None


def test_a_policy_has_three_retries_after_a_second_up_to_ten_minutes_unless_told() -> None:
    policy = Retry()

    assert (policy.max, policy.base, policy.cap, policy.jitter, policy.on, policy.max_age, policy.budget) == (
        3,
        1.0,
        600.0,
        "full",
        {},
        None,
        None,
    )
    assert [policy.allows(retries=retries) for retries in (2, 3)] == [True, False]


@pytest.mark.parametrize("options", [{"max": 0}, {"base": 0}, {"cap": 0}, {"max_age": 0}, {"budget": (1, 0.001)}, {"budget": [1, 1]}])
def test_the_least_values_are_taken(options: dict[str, Any]) -> None:
    Retry(**options)


@pytest.mark.parametrize("budget", [(1,), (1, 1, 1), (1.5, 1), (True, 1), (1, True), (1, float("inf")), "ab", None.__class__])
def test_a_budget_is_a_count_and_a_time(budget: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match="budget"):
        Retry(budget=budget)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, "OSError", 3])
def test_only_errors_that_a_body_may_raise_have_policies(kind: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match="on: expected a mapping of error types"):
        Retry(on={kind: Retry()})


def test_a_policy_within_a_policy_has_none_within_it() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"on\[OSError\]"):
        Retry(on={OSError: Retry(on={ConnectionError: Retry()})})
