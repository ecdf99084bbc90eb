"""How long dead letters stay, on a real server: by age, and by bytes after an alarm."""

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from celery_tw.clock import RedisTime, SystemClock
from celery_tw.core.death import Death
from celery_tw.events import dead_letters_dropping
from celery_tw.scheduler.retention import ALARM_AGAIN_MS, AT_A_TIME, LOOK_MS, SOON_MS, STAND_BY_MS, Retention
from celery_tw.stores.redis.dead_letters import DeadLetters
from tests.scheduler.conftest import KEYS, Stand

EXPIRES_MS = 60_000
MESSAGE = b"x" * 700
LIMIT = 10_000
"""Some nine letters."""


class Keeper:
    """A leader that looks after dead letters."""

    def __init__(self, stand: Stand, clock: SystemClock) -> None:
        self.stand = stand
        self.clock = clock
        self.letters = DeadLetters(stand.client, KEYS)
        self.redis_time = RedisTime(clock)
        self.redis_time.observe(stand.now_ms())
        self.retention = Retention(
            letters=self.letters, elector=stand.elector, clock=clock, redis_time=self.redis_time, expires_ms=EXPIRES_MS, max_bytes=LIMIT
        )

    def bury(self, count: int, *, age_ms: int = 0, first: int = 0) -> None:
        for number in range(first, first + count):
            self.letters.bury(f"m{number}", MESSAGE, Death(reason="failed"))
            self.stand.client.zadd(KEYS.dlq, {f"m{number}": self.redis_time.now_ms() - age_ms + number})
            self.stand.client.hset(KEYS.dead(f"m{number}"), "last", self.redis_time.now_ms() - age_ms + number)

    def step(self) -> int:
        """Look, although the time between two looks has not passed."""
        self.retention._next_ms = 0
        return self.retention.step()

    def left(self) -> list[str]:
        return [letter.letter_id for letter in self.letters.oldest(1000)]


@pytest.fixture
def keeper(redis_client: redis.Redis) -> Keeper:
    stand = Stand(redis_client).lead()
    return Keeper(stand, stand.clock)


@pytest.fixture
def heard() -> Iterator[list[dict[str, Any]]]:
    facts: list[dict[str, Any]] = []

    def hear(count: int, reason: str, **more: Any) -> None:
        facts.append({"count": count, "reason": reason})

    dead_letters_dropping.connect(hear)
    yield facts
    dead_letters_dropping.disconnect(hear)


def test_what_is_old_expires_and_what_is_not_stays(keeper: Keeper, heard: list[dict[str, Any]]) -> None:
    keeper.bury(2, age_ms=EXPIRES_MS + 1000)
    keeper.bury(2, age_ms=EXPIRES_MS - 1000, first=2)

    assert keeper.step() == SOON_MS
    assert keeper.left() == ["m2", "m3"]
    assert keeper.letters.totals().counts == {"buried": 4, "expired": 2}
    assert heard == []


def test_many_expire_a_few_at_a_time(keeper: Keeper) -> None:
    keeper.bury(AT_A_TIME + 1, age_ms=2 * EXPIRES_MS)

    assert keeper.step() == SOON_MS
    assert len(keeper.left()) == 1
    keeper.step()
    assert (keeper.left(), keeper.step()) == ([], LOOK_MS)


def test_an_alarm_comes_before_anything_is_dropped_and_again_in_an_hour(keeper: Keeper, heard: list[dict[str, Any]]) -> None:
    keeper.bury(8)

    assert keeper.step() == LOOK_MS
    keeper.step()
    assert heard == [{"count": 8, "reason": "nearly full"}]
    keeper.retention._alarmed_ms = keeper.clock.boot_ms() - ALARM_AGAIN_MS
    keeper.step()
    assert len(heard) == 2
    assert len(keeper.left()) == 8


def test_beyond_the_limit_the_oldest_are_dropped_after_the_alarm(keeper: Keeper, heard: list[dict[str, Any]]) -> None:
    keeper.bury(12)
    size = keeper.letters.oldest(1)[0].size

    assert keeper.step() == SOON_MS
    assert len(keeper.left()) == 12
    assert keeper.step() == LOOK_MS

    dropped = 12 - LIMIT // size
    assert keeper.left() == [f"m{number}" for number in range(dropped, 12)]
    assert keeper.letters.totals().size <= LIMIT
    assert keeper.letters.totals().counts["dropped"] == dropped
    assert heard == [{"count": 12, "reason": "nearly full"}, {"count": dropped, "reason": "dropped"}]


def test_who_does_not_lead_drops_nothing(keeper: Keeper) -> None:
    keeper.bury(1, age_ms=2 * EXPIRES_MS)
    keeper.stand.elector.resign()

    assert keeper.step() == STAND_BY_MS
    assert keeper.left() == ["m0"]
