"""What tests of the stores need: a shard's keys, and a leader's epoch."""

import pytest
import redis

from celery_tw.stores.redis.dispatching import Dispatching
from celery_tw.stores.redis.election import Election, Led
from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.redis.timetable import Timetable

LEASE_MS = 3000


@pytest.fixture
def store_client(redis_client: redis.Redis) -> redis.Redis:
    """The client that the stores work with."""
    return redis_client


@pytest.fixture
def keys() -> Keys:
    return Keys("shop")


@pytest.fixture
def timetable(store_client: redis.Redis, keys: Keys) -> Timetable:
    return Timetable(store_client, keys)


@pytest.fixture
def election(store_client: redis.Redis, keys: Keys) -> Election:
    return Election(store_client, keys)


@pytest.fixture
def dispatching(store_client: redis.Redis, keys: Keys) -> Dispatching:
    return Dispatching(store_client, keys, lease_ms=LEASE_MS, history_size=3)


@pytest.fixture
def epoch(election: Election) -> int:
    led = election.acquire("me", lease_ms=60_000)
    assert isinstance(led, Led)
    return led.epoch
