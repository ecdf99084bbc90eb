"""Delayed calls: a call that was given up and repeated may still arrive, after its repetition was carried out."""

from dataclasses import replace

import pytest
import redis

from celery_tw.clock import SystemClock
from celery_tw.stores.redis.deferring import Deferred, Deferring
from celery_tw.stores.redis.dispatching import Dispatching
from celery_tw.stores.redis.election import Election
from celery_tw.stores.redis.keys import FIRED_KEPT_MS, Keys
from celery_tw.stores.redis.lanes import Lanes
from celery_tw.stores.redis.timetable import Timetable
from tests.stores.test_lanes import QUEUE, entering
from tests.stores.waiting_tasks import waiting_task


def test_a_deferred_task_that_was_fired_is_not_stored_by_the_first_call_that_arrives_late(
    redis_client: redis.Redis, keys: Keys, timetable: Timetable, dispatching: Dispatching, epoch: int
) -> None:
    now_ms = timetable.now_ms()
    record = waiting_task("m1", task_id="t1", queue="queue", message=b"hello")
    task = Deferred(entry_id=1, mid="m1", task_id="t1", due_ms=now_ms - 1, rest=record.pack_rest())
    deferring = Deferring(redis_client, keys, grace_ms=None, clock=SystemClock())
    assert deferring._call(task, begun_ago=500)[1] == "put"
    assert dispatching.fire_once(epoch, [(now_ms - 1, 1)], fingerprint="f", queue_keys=[b"queue"]).statuses()[1] == ["fired"]

    assert deferring._call(task, begun_ago="")[1] == "fired"

    assert redis_client.lrange("queue", 0, -1) == [b"hello"]
    assert timetable.read_one_time(1)[0] is None


def test_a_message_that_went_straight_on_is_not_stored_by_the_first_call_that_arrives_late(
    redis_client: redis.Redis, keys: Keys, epoch: int
) -> None:
    lanes = Lanes(redis_client, keys, lease_ms=3000, clock=SystemClock())
    redis_client.set(keys.room(QUEUE), 1)
    assert lanes._enter(entering(1), begun_ago=500)[1] == "straight"

    assert lanes._enter(entering(1), begun_ago="")[1] == "fired"

    assert lanes.page(QUEUE, "low") == []


@pytest.fixture
def let_past(redis_client: redis.Redis, keys: Keys, timetable: Timetable, election: Election) -> tuple[Lanes, Deferring, Deferred]:
    """Where `entering(1)` and the task that comes with them were asked about twice while nobody led; by now somebody does."""
    lanes = Lanes(redis_client, keys, lease_ms=3000, clock=SystemClock())
    deferring = Deferring(redis_client, keys, grace_ms=1000, clock=SystemClock())
    rest = waiting_task("m5", task_id="t5", queue="queue", message=b"hello").pack_rest()
    task = Deferred(entry_id=5, mid="m5", task_id="t5", due_ms=timetable.now_ms() + 1000, rest=rest)
    assert lanes._enter(entering(1), begun_ago=500)[1] == "leaderless"
    assert deferring._call(task, begun_ago=500)[1] == "leaderless"
    election.acquire("me", lease_ms=60_000)
    return lanes, deferring, task


def test_a_task_that_was_published_for_want_of_a_leader_is_not_stored_by_the_first_call_that_arrives_late(
    let_past: tuple[Lanes, Deferring, Deferred], timetable: Timetable
) -> None:
    lanes, deferring, task = let_past

    assert lanes._enter(entering(1), begun_ago="")[1] == "fired"
    assert deferring._call(task, begun_ago="")[1] == "fired"

    assert lanes.page(QUEUE, "low") == []
    assert timetable.read_one_time(5)[0] is None


def test_a_message_that_was_let_past_and_then_not_published_can_be_sent_again_under_its_mid(
    let_past: tuple[Lanes, Deferring, Deferred],
) -> None:
    lanes, deferring, task = let_past

    assert lanes._enter(replace(entering(1), entry_id=11), begun_ago="")[1] == "waiting"
    assert deferring._call(replace(task, entry_id=15), begun_ago="")[1] == "put"


def test_what_was_fired_is_known_for_ten_minutes(redis_client: redis.Redis, keys: Keys, timetable: Timetable, election: Election) -> None:
    lanes = Lanes(redis_client, keys, lease_ms=3000, clock=SystemClock())
    election.acquire("me", lease_ms=60_000)
    entry = entering(1)
    redis_client.zadd(keys.fired, {entry.mid: timetable.now_ms() - FIRED_KEPT_MS + 60_000})
    assert lanes._enter(entry, begun_ago="")[1] == "fired"
    redis_client.zadd(keys.fired, {entry.mid: timetable.now_ms() - FIRED_KEPT_MS - 1})
    assert lanes._enter(entry, begun_ago="")[1] == "waiting"
