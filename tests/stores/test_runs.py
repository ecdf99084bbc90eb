"""The scripts of a run: who may do what, and what a repeated or a late call finds."""

import pytest
import redis

from celery_tw.clock import RedisTime, SystemClock
from celery_tw.runtime.lock import lock
from celery_tw.stores.redis.codec import OneTime
from celery_tw.stores.redis.deferring import EntryIds
from celery_tw.stores.redis.election import Election, Led
from celery_tw.stores.redis.envelope import Envelope, write_envelope
from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.redis.runs.claim import Claim
from celery_tw.stores.redis.runs.finished import digest_of
from celery_tw.stores.redis.runs.right import Right
from celery_tw.stores.redis.runs.runs import Runs
from celery_tw.stores.redis.timetable import Timetable

KEYS = Keys("shop")


@pytest.fixture
def runs(redis_client: redis.Redis) -> Runs:
    time = RedisTime(SystemClock())
    return Runs(redis_client, KEYS, redis_time=time, lease_ms=5000, done_kept_ms=60_000, grace_ms=60_000)


def claim(owner: str = "host:1:a", mid: str = "m") -> Claim:
    return Claim(mid=mid, owner=owner, task="t", task_id=f"task-{mid}", guards=[lock("k")])


def test_a_repeated_call_is_answered_as_the_first_one(runs: Runs) -> None:
    assert runs.acquire(claim()) == runs.acquire(claim())


def test_one_process_at_a_time_has_a_run(runs: Runs) -> None:
    runs.acquire(claim())
    answer = runs.acquire(claim("host:2:b"))
    assert answer.verdict == "busy"
    assert 0 < answer.wait_ms <= 5000


def test_tokens_grow_and_the_older_one_is_refused_everything(runs: Runs, redis_client: redis.Redis) -> None:
    first = runs.acquire(claim())
    redis_client.delete(KEYS.lease("m"))
    second = runs.acquire(claim("host:2:b"))

    assert int(second.token) > int(first.token)
    assert not runs.ran("m", first.token, b"1")
    assert not runs.holds("m", first.token)
    assert not runs.finish(Right.of_token(first.token), "done", mid="m", task_id="task-m", guards=[lock("k")])[0]
    arguments = {"task_id": "task-m", "state": b"{}", "kept_ms": 1000, "processes": ("a", "b")}
    assert runs.checkpoints.save("m", first.token, **arguments) == "lost"
    assert runs.signs.beat([("m", first.token, "task-m", [])], extend=True, processes=("a", "b")) == ["lost"]
    assert redis_client.get(KEYS.guard("lock", "k")) == b"m", "the successor keeps the lock of the run"
    assert runs.ran("m", second.token, b"2")


@pytest.mark.parametrize("end", ["free", "lost"])
def test_a_result_on_record_outlives_the_process(runs: Runs, end: str) -> None:
    token = runs.acquire(claim()).token
    runs.ran("m", token, b'"result"')
    runs.finish(Right.of_owner("host:1:"), end, mid="m", task_id="task-m", guards=[lock("k")])

    answer = runs.acquire(claim("host:2:b"))
    assert (answer.verdict, answer.result) == ("ran", b'"result"')


def test_a_finished_run_is_remembered_by_less_than_a_hundred_bytes(runs: Runs, redis_client: redis.Redis) -> None:
    def finish(mid: str) -> None:
        token = runs.acquire(claim(mid=mid)).token
        runs.finish(Right.of_token(token), "done", mid=mid, task_id=f"task-{mid}", guards=[lock("k")])

    finish("first")
    before = memory(redis_client)
    for number in range(20_000):
        finish(str(number))
    assert runs.acquire(claim("host:9:z", mid="7")).verdict == "done"
    assert (memory(redis_client) - before) / 20_000 <= 100


def memory(client: redis.Redis) -> int:
    return sum(client.memory_usage(key, samples=0) for key in client.scan_iter(f"{KEYS.tag}:done:*"))


def test_finished_runs_are_spread_over_buckets() -> None:
    assert len({digest_of(str(number))[0] for number in range(5000)}) == 256


@pytest.mark.parametrize("loss", [Right.of_owner("host:1:"), Right.of_owner("host:")])
def test_the_parent_of_a_process_sets_its_run_free_at_once(runs: Runs, loss: Right) -> None:
    runs.acquire(claim())
    assert runs.finish(loss, "lost", mid="m", task_id="task-m", guards=[lock("k")]) == (True, 1)
    assert runs.acquire(claim("host:2:b")).losses == 1


def test_another_parent_may_not(runs: Runs) -> None:
    runs.acquire(claim())
    assert not runs.finish(Right.of_owner("host:2:"), "lost", mid="m", task_id="task-m")[0]


def test_the_record_that_holds_a_message_stays_until_its_run_has_ended(runs: Runs, redis_client: redis.Redis) -> None:
    """It is the only copy: the broker has let go of it."""
    token = runs.acquire(claim()).token
    redis_client.set(KEYS.seen, redis_client.time()[0] * 1000)
    assert runs.messages.accept("m", b"{}") == "stored"
    record = KEYS.run("m")
    assert redis_client.ttl(record) == -1
    runs.signs.beat([("m", token, "task-m", [lock("k")])], extend=True, processes=("a", "b"))
    assert redis_client.ttl(record) == -1
    redis_client.delete(KEYS.lease("m"))
    token = runs.acquire(claim("host:2:b")).token
    assert redis_client.ttl(record) == -1

    runs.finish(Right.of_token(token), "done", mid="m", task_id="task-m", guards=[lock("k")])
    assert not redis_client.exists(record)


def test_a_result_on_record_waits_for_the_brokers_copy_longer_than_finished_runs_are_remembered(
    runs: Runs, redis_client: redis.Redis
) -> None:
    token = runs.acquire(claim()).token
    runs.ran("m", token, b"1")
    assert redis_client.pttl(KEYS.run("m")) > 1000 * runs.finished.kept_ms


@pytest.fixture
def led(redis_client: redis.Redis) -> None:
    """Let a scheduler lead, without which no message of a long run is kept."""
    assert isinstance(Election(redis_client, KEYS).acquire("me", lease_ms=60_000), Led)


def park(runs: Runs, mid: str = "m") -> None:
    ids = EntryIds(Timetable(runs.client, KEYS))
    rest = OneTime(
        mid="", name="", stored_ms=0, last_ms=None, fingerprint="f", queue_key="queue", extra={}, message=b"{}", task_id=f"task-{mid}"
    ).pack_rest()
    runs.messages.park(ids, mid=mid, task_id=f"task-{mid}", rest=rest, delay_ms=60_000, guard=lock("k"))


@pytest.mark.usefixtures("led")
def test_a_long_run_that_is_parked_is_under_way_no_longer_and_its_record_expires(runs: Runs, redis_client: redis.Redis) -> None:
    redis_client.set(KEYS.guard("lock", "k"), "another")
    runs.messages.accept("m", b"{}")
    assert runs.acquire(claim()).verdict == "wait"
    assert runs.under_way.counters() == {"m": "0"}

    park(runs)

    assert runs.under_way.counters() == {}
    assert redis_client.pttl(KEYS.run("m")) > 0


@pytest.mark.usefixtures("led")
def test_a_copy_that_is_parked_leaves_the_run_to_the_process_that_has_it(runs: Runs) -> None:
    runs.messages.accept("m", b"{}")
    runs.acquire(claim())

    park(runs)

    assert list(runs.under_way.counters()) == ["m"]


@pytest.mark.usefixtures("led")
def test_a_long_run_that_no_process_has_begun_is_known_by_its_message(runs: Runs) -> None:
    envelope = Envelope(
        body=b"[[], {}, {}]",
        content_type="application/json",
        content_encoding="utf-8",
        headers={"id": "task-m", "task": "shop.count"},
        properties={},
        exchange="",
        routing_key="queue",
    )
    runs.messages.accept("m", write_envelope(envelope))

    (record,) = runs.under_way.read(["m"])

    assert (record.task, record.task_id, record.state) == ("shop.count", "task-m", "accepted")
