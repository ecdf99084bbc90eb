"""Budgets of retries: how many there are at once, and how long the others wait."""

import pytest
import redis

from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.redis.retry_budgets import RetryBudgets

HOUR_MS = 3_600_000
MINUTE_MS = 60_000


@pytest.fixture
def budgets(store_client: redis.Redis, keys: Keys) -> RetryBudgets:
    return RetryBudgets(store_client, keys)


def test_a_full_bucket_is_for_now_and_what_follows_waits_its_turn(budgets: RetryBudgets) -> None:
    waits = [budgets.take("shop.pay", tokens=3, per_ms=3 * HOUR_MS) for _ in range(6)]

    assert waits[:3] == [0, 0, 0]
    assert [round((wait or 0) / HOUR_MS, 2) for wait in waits[3:]] == [1, 2, 3]


def test_who_cannot_wait_so_long_takes_nothing(budgets: RetryBudgets) -> None:
    assert budgets.take("shop.pay", tokens=1, per_ms=HOUR_MS, longest_ms=0) == 0
    assert [budgets.take("shop.pay", tokens=1, per_ms=HOUR_MS, longest_ms=MINUTE_MS) for _ in range(3)] == [None] * 3

    wait = budgets.take("shop.pay", tokens=1, per_ms=HOUR_MS, longest_ms=HOUR_MS)
    assert wait is not None
    assert HOUR_MS - MINUTE_MS < wait <= HOUR_MS


def test_tasks_of_another_name_have_a_bucket_of_their_own(budgets: RetryBudgets) -> None:
    assert [budgets.take(task, tokens=1, per_ms=HOUR_MS) for task in ("shop.pay", "shop.mail")] == [0, 0]
    assert budgets.take("shop.pay", tokens=1, per_ms=HOUR_MS) != 0


def test_a_bucket_is_kept_until_it_is_full_again(budgets: RetryBudgets, store_client: redis.Redis, keys: Keys) -> None:
    for _ in range(2):
        budgets.take("shop.pay", tokens=2, per_ms=HOUR_MS)

    assert HOUR_MS - MINUTE_MS < store_client.pttl(keys.retry_budget("shop.pay")) <= HOUR_MS


def test_a_bucket_that_was_left_alone_long_enough_is_full(budgets: RetryBudgets, store_client: redis.Redis, keys: Keys) -> None:
    budgets.take("shop.pay", tokens=2, per_ms=HOUR_MS)
    seconds, _ = store_client.time()
    store_client.set(keys.retry_budget("shop.pay"), (seconds - 1) * 1000)

    assert [budgets.take("shop.pay", tokens=2, per_ms=HOUR_MS) for _ in range(2)] == [0, 0]
