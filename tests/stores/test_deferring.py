"""The verbs that store a task with an ETA, on a real server."""

from collections.abc import Iterator

import pytest
import redis

from celery_tw.clock import SystemClock
from celery_tw.embedded import EmbeddedServer
from celery_tw.errors import StoreRefused, StoreUnavailable
from celery_tw.stores.redis.cancelling import Cancelling
from celery_tw.stores.redis.codec import unpack_one_time
from celery_tw.stores.redis.deferring import BLOCK, Deferred, Deferring, EntryIds
from celery_tw.stores.redis.dispatching import Dispatching
from celery_tw.stores.redis.election import Election
from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.redis.news import NewsReader
from celery_tw.stores.redis.timetable import Timetable
from tests.cutting import CuttingProxy
from tests.stores.waiting_tasks import waiting_task
from tests.waiting import wait_until

GRACE_MS = 60_000


@pytest.fixture
def deferring(redis_client: redis.Redis, keys: Keys) -> Deferring:
    return Deferring(redis_client, keys, grace_ms=None, clock=SystemClock())


@pytest.fixture
def cautious(redis_client: redis.Redis, keys: Keys) -> Deferring:
    """It stores only when a leader has been seen."""
    return Deferring(redis_client, keys, grace_ms=GRACE_MS, clock=SystemClock())


@pytest.fixture
def proxy(redis_server: EmbeddedServer) -> Iterator[CuttingProxy]:
    with CuttingProxy(str(redis_server.socket_path)) as proxy:
        yield proxy


def deferred(entry_id: int = 3, *, mid: str = "m1", task_id: str = "t1", due_ms: int = 2000, message: bytes = b"{}") -> Deferred:
    record = waiting_task(mid, task_id=task_id, message=message)
    return Deferred(entry_id=entry_id, mid=mid, task_id=task_id, due_ms=due_ms, rest=record.pack_rest())


def test_a_stored_task_is_due_listed_and_told_and_knows_when_it_was_stored(
    deferring: Deferring, timetable: Timetable, redis_client: redis.Redis, keys: Keys
) -> None:
    news = NewsReader(redis_client, keys)
    news.catch_up()

    now_ms, status = deferring.defer(deferred(message=b"{\n}"))

    assert status == "put"
    record, due_ms, held = timetable.read_one_time(3)
    task = unpack_one_time(record or b"")
    assert (due_ms, held, task.mid, task.stored_ms, task.task_id, task.message) == (2000, False, "m1", now_ms, "t1", b"{\n}")
    assert redis_client.hgetall(keys.by_task) == {b"t1": b"3"}
    assert [each.entries() for each in news.read(block_ms=1)[0]] == [[(3, 2000)]]


def test_two_tasks_may_wait_under_one_task_id(deferring: Deferring, redis_client: redis.Redis, keys: Keys) -> None:
    deferring.defer(deferred(3, mid="m1"))
    deferring.defer(deferred(5, mid="m2"))

    assert redis_client.hget(keys.by_task, "t1") == b"3 5"
    assert redis_client.zcard(keys.due) == 2


def test_without_a_leader_nothing_is_stored(cautious: Deferring, redis_client: redis.Redis) -> None:
    assert cautious.defer(deferred())[1] == "leaderless"
    assert redis_client.keys() == []


def test_a_leader_or_one_that_was_seen_within_the_grace_is_enough(
    cautious: Deferring, election: Election, epoch: int, redis_client: redis.Redis, keys: Keys
) -> None:
    assert cautious.defer(deferred(3, mid="m1"))[1] == "put"

    election.resign(epoch)
    assert cautious.defer(deferred(5, mid="m2"))[1] == "put"

    now_ms = cautious.defer(deferred(5, mid="m2"))[0]
    redis_client.set(keys.seen, now_ms - GRACE_MS - 1000)
    assert cautious.defer(deferred(7, mid="m3"))[1] == "leaderless"


def test_a_renewal_says_that_a_leader_was_seen(election: Election, epoch: int, redis_client: redis.Redis, keys: Keys) -> None:
    redis_client.delete(keys.seen)

    renewal = election.renew(epoch, lease_ms=1000)

    assert int(redis_client.get(keys.seen) or 0) == renewal.now_ms


def test_an_id_of_another_task_is_told_and_left_alone(deferring: Deferring, timetable: Timetable) -> None:
    deferring.defer(deferred(3, mid="m1", task_id="t1"))

    assert deferring.defer(deferred(3, mid="m2", task_id="t2"))[1] == "taken"

    record, _, _ = timetable.read_one_time(3)
    assert unpack_one_time(record or b"").mid == "m1"


def test_a_call_whose_answer_was_lost_stores_one_task(proxy: CuttingProxy, keys: Keys, redis_client: redis.Redis) -> None:
    through = Deferring(proxy.client(), keys, grace_ms=None, clock=SystemClock())
    through.defer(deferred(1, mid="m0", task_id="t0"))
    proxy.cut_answers_to(b"EVALSHA", number=1)

    assert through.defer(deferred(3))[1] == "put"

    assert proxy.cuts == 1
    assert redis_client.hget(keys.by_task, "t1") == b"3"
    assert redis_client.zcard(keys.due) == 2


def test_a_call_that_was_fired_before_it_was_repeated_stores_nothing(
    proxy: CuttingProxy, dispatching: Dispatching, epoch: int, keys: Keys, redis_client: redis.Redis
) -> None:
    through = Deferring(proxy.client(), keys, grace_ms=None, clock=SystemClock())
    through.defer(deferred(1, mid="m0", task_id="t0", due_ms=2**50))

    def fire() -> None:
        assert dispatching.fire_once(epoch, [(2000, 3)], fingerprint="f", queue_keys=[b"celery"]).statuses()[1] == ["fired"]

    proxy.cut_answers_to(b"EVALSHA", number=1, meanwhile=fire)

    assert through.defer(deferred(3))[1] == "fired"
    assert redis_client.llen("celery") == 1
    assert redis_client.zcard(keys.due) == 1


def test_a_call_that_was_cancelled_before_it_was_repeated_stores_nothing(
    proxy: CuttingProxy, keys: Keys, redis_client: redis.Redis
) -> None:
    through = Deferring(proxy.client(), keys, grace_ms=None, clock=SystemClock())
    through.defer(deferred(1, mid="m0", task_id="t0"))
    proxy.cut_answers_to(b"EVALSHA", number=1, meanwhile=lambda: Cancelling(redis_client, keys).cancel(["t1"]))

    assert through.defer(deferred(3))[1] == "cancelled"
    assert redis_client.zcard(keys.due) == 1


def test_an_older_cancellation_does_not_stop_a_send_whose_first_call_never_arrived(
    deferring: Deferring, redis_client: redis.Redis, keys: Keys
) -> None:
    Cancelling(redis_client, keys).cancel(["t1"])
    wait_until(lambda: int(redis_client.zscore(keys.cancelled, "t1") or 0) + 2 < Timetable(redis_client, keys).now_ms())

    assert deferring._call(deferred(3), begun_ago=1)[1] == "put"


def test_a_send_after_a_cancellation_clears_its_tombstone(deferring: Deferring, redis_client: redis.Redis, keys: Keys) -> None:
    Cancelling(redis_client, keys).cancel(["t1"])
    assert redis_client.zscore(keys.cancelled, "t1") is not None

    assert deferring.defer(deferred())[1] == "put"

    assert redis_client.zscore(keys.cancelled, "t1") is None


def test_a_full_server_refuses_a_task_whole(deferring: Deferring, redis_client: redis.Redis) -> None:
    redis_client.config_set("maxmemory", 1)
    try:
        with pytest.raises(StoreRefused, match="out of memory"):
            deferring.defer(deferred())
    finally:
        redis_client.config_set("maxmemory", 0)

    assert redis_client.dbsize() == 0


def test_a_read_only_server_stores_nothing(deferring: Deferring, redis_client: redis.Redis) -> None:
    redis_client.replicaof("127.0.0.1", 1)
    try:
        with pytest.raises((StoreRefused, StoreUnavailable), match="read only"):
            deferring.defer(deferred())
    finally:
        redis_client.replicaof("NO", "ONE")

    assert redis_client.dbsize() == 0


def test_a_server_that_cannot_be_reached_is_told_before_anything_is_sent(keys: Keys) -> None:
    away = Deferring(redis.Redis(unix_socket_path="/nowhere/redis.sock"), keys, grace_ms=None, clock=SystemClock())
    with pytest.raises(StoreUnavailable, match="did not answer"):
        away.reach()


def test_ids_are_fresh_and_reserved_in_blocks(timetable: Timetable, redis_client: redis.Redis, keys: Keys) -> None:
    ids = EntryIds(timetable)
    taken = [ids.take() for _ in range(BLOCK + 1)]

    assert taken == sorted(set(taken))
    assert all(entry_id % 2 == 1 for entry_id in taken)
    assert int(redis_client.get(keys.seq) or 0) == 2 * BLOCK

    ids.discard()
    assert ids.take() > 2 * (2 * BLOCK)
