"""Delayed calls: a call that was given up and repeated may still arrive, after its repetition was carried out."""

import redis

from celery_tw.clock import SystemClock
from celery_tw.stores.redis.deferring import Deferred, Deferring
from celery_tw.stores.redis.dispatching import Dispatching
from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.redis.timetable import Timetable
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
