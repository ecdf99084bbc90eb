"""Which cancelled runs the leader has ended, on a real server."""

from collections.abc import Callable

import pytest
import redis

from celery_tw.clock import RedisTime, SystemClock
from celery_tw.scheduler.terminating import TRIES, Terminating
from celery_tw.stores.redis.runs.claim import Claim
from celery_tw.stores.redis.runs.right import Right
from celery_tw.stores.redis.runs.runs import Runs
from celery_tw.stores.redis.terminations import Terminations
from tests.scheduler.conftest import KEYS, Stand


class Watch:
    """A leader that looks for runs to end, and notes which tasks it names."""

    def __init__(self, stand: Stand) -> None:
        redis_time = RedisTime(SystemClock())
        redis_time.observe(stand.now_ms())
        self.stand = stand
        self.runs = Runs(stand.client, KEYS, redis_time=redis_time, lease_ms=60_000, done_kept_ms=60_000, grace_ms=60_000)
        self.terminations = Terminations(stand.client, KEYS)
        self.named: list[str] = []
        self.terminating = Terminating(
            terminations=self.terminations,
            runs=self.runs,
            elector=stand.elector,
            redis_time=redis_time,
            terminate=self.named.append,
        )

    def begin(self, mid: str, *, cancelled: bool = True) -> str:
        token = self.runs.acquire(Claim(mid=mid, owner=f"p:{mid}", task="shop.x", task_id=f"id-{mid}")).token
        if cancelled:
            self.runs.under_way.ask_to_cancel(f"id-{mid}", "enough")
        return token

    def hurry(self) -> None:
        for mid in self.stand.client.zrange(KEYS.terminations, 0, -1):
            self.stand.client.zadd(KEYS.terminations, {mid: 1})


@pytest.fixture
def watch(redis_client: redis.Redis) -> Watch:
    return Watch(Stand(redis_client).lead())


def test_a_run_whose_time_has_come_is_named(watch: Watch) -> None:
    watch.begin("a")
    watch.terminations.plan("a", after_ms=0)
    watch.begin("b")
    watch.terminations.plan("b", after_ms=60_000)

    watch.terminating.step()

    assert watch.named == ["id-a"]


def test_a_run_that_has_stopped_is_left_alone(watch: Watch) -> None:
    token = watch.begin("a")
    watch.terminations.plan("a", after_ms=0)
    watch.runs.finish(Right.of_token(token), "cancelled", mid="a", task_id="id-a")

    watch.terminating.step()

    assert watch.named == []
    assert not watch.stand.client.exists(KEYS.terminations)


def test_a_run_that_was_not_asked_to_stop_is_not_ended(watch: Watch) -> None:
    watch.begin("a", cancelled=False)
    watch.terminations.plan("a", after_ms=0)

    watch.terminating.step()

    assert watch.named == []


def test_a_run_that_cannot_be_ended_is_named_a_few_times_and_given_up(watch: Watch, caplog: pytest.LogCaptureFixture) -> None:
    watch.begin("a")
    watch.terminations.plan("a", after_ms=0)

    for _ in range(TRIES + 1):
        watch.hurry()
        watch.terminating.step()

    assert watch.named == ["id-a"] * TRIES
    assert "could not be ended" in caplog.text
    assert not watch.stand.client.exists(KEYS.terminations)


def test_a_stand_by_ends_nothing(watch: Watch) -> None:
    watch.begin("a")
    watch.terminations.plan("a", after_ms=0)
    watch.stand.elector.resign()

    watch.terminating.step()

    assert watch.named == []


def test_the_next_leader_goes_on(watch: Watch, make_stand: Callable[..., Stand]) -> None:
    watch.begin("a")
    watch.terminations.plan("a", after_ms=0)
    watch.stand.elector.resign()
    after = Watch(make_stand("next").lead())

    after.terminating.step()

    assert after.named == ["id-a"]
