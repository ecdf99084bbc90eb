"""Cancelling on a real server: what is taken, what stays, and what a repeated call may do."""

import threading
from collections.abc import Iterator

import pytest
import redis

from celery_tw.embedded import EmbeddedServer
from celery_tw.stores.redis.cancelling import BATCH, Cancelling
from celery_tw.stores.redis.dispatching import Dispatching
from celery_tw.stores.redis.keys import CANCELLED_KEPT_MS, Keys
from celery_tw.stores.redis.news import NewsReader
from celery_tw.stores.redis.timetable import Timetable
from celery_tw.stores.redis.writing import OneTimeWrite
from tests.cutting import CuttingProxy
from tests.stores.waiting_tasks import waiting_task


@pytest.fixture
def cancelling(redis_client: redis.Redis, keys: Keys) -> Cancelling:
    return Cancelling(redis_client, keys)


def put(timetable: Timetable, entry_id: int, task_id: str, *, due_ms: int = 2000, message: bytes = b"{}") -> bytes:
    """Store a task that waits under *task_id*, and return its record."""
    record = waiting_task(f"mid-{entry_id}", task_id=task_id, stored_ms=1, message=message).pack()
    timetable.writing.put_one_time([OneTimeWrite(name="", entry_id=entry_id, mid=f"mid-{entry_id}", due_ms=due_ms, record=record)])
    listed = timetable.client.hget(timetable.keys.by_task, task_id)
    timetable.client.hset(timetable.keys.by_task, task_id, f"{listed.decode()} {entry_id}" if listed else str(entry_id))
    return record


def test_a_cancelled_task_leaves_nothing_but_its_tombstone(
    timetable: Timetable, cancelling: Cancelling, redis_client: redis.Redis, keys: Keys
) -> None:
    record = put(timetable, 3, "a")

    (waiting,) = cancelling.cancel(["a"])["a"]

    assert (waiting.entry_id, waiting.record, waiting.due_ms) == (3, record, 2000)
    left = {key for key in redis_client.keys("*") if b":answer:" not in key}
    assert left == {key.encode() for key in (keys.cancelled, keys.news, keys.news_seq, keys.schema, keys.templates, keys.template_dues)}
    assert redis_client.zscore(keys.cancelled, "a") == pytest.approx(timetable.now_ms(), abs=5000)


def test_all_that_waits_under_one_id_is_taken_and_other_ids_wait_on(timetable: Timetable, cancelling: Cancelling, keys: Keys) -> None:
    for entry_id in (3, 5, 7):
        put(timetable, entry_id, "a" if entry_id != 5 else "b")

    taken = cancelling.cancel(["a", "unknown"])

    assert [waiting.entry_id for waiting in taken["a"]] == [3, 7]
    assert taken["unknown"] == []
    assert timetable.nearest(5) == [(2000, 5)]
    assert cancelling.listed(["a", "b", "unknown"]) == {"b": [5]}


def test_a_cancelled_task_is_not_fired_and_a_fired_one_is_not_cancelled(
    timetable: Timetable, cancelling: Cancelling, dispatching: Dispatching, epoch: int
) -> None:
    put(timetable, 3, "a")
    put(timetable, 5, "b")
    dispatching.fire_once(epoch, [(2000, 3)], fingerprint="f", queue_keys=[b"celery"]).statuses()

    taken = cancelling.cancel(["a", "b"])

    assert {task_id: len(waiting) for task_id, waiting in taken.items()} == {"a": 0, "b": 1}
    assert dispatching.fire_once(epoch, [(2000, 5)], fingerprint="f", queue_keys=[b"celery"]).statuses()[1] == ["gone"]


def test_while_tasks_are_fired_and_cancelled_at_once_each_has_one_end(
    timetable: Timetable, cancelling: Cancelling, dispatching: Dispatching, redis_client: redis.Redis, epoch: int
) -> None:
    for number in range(200):
        put(timetable, 2 * number + 1, f"task-{number}", message=b"%d" % number)
    statuses: dict[int, str] = {}

    def fire() -> None:
        for number in range(200):
            pair = (2000, 2 * number + 1)
            statuses[number] = dispatching.fire_once(epoch, [pair], fingerprint="f", queue_keys=[b"celery"]).statuses()[1][0]

    firing = threading.Thread(target=fire)
    firing.start()
    taken = {number for number in reversed(range(200)) if cancelling.cancel([f"task-{number}"])[f"task-{number}"]}
    firing.join()

    fired = {number for number, status in statuses.items() if status == "fired"}
    assert fired | taken == set(range(200))
    assert not fired & taken
    assert sorted(int(message) for message in redis_client.lrange("celery", 0, -1)) == sorted(fired)


def test_a_held_task_and_one_that_was_set_aside_are_taken_too(
    timetable: Timetable, cancelling: Cancelling, dispatching: Dispatching, keys: Keys, epoch: int
) -> None:
    put(timetable, 3, "held")
    put(timetable, 5, "bad")
    timetable.writing.hold(3, pause=True)
    dispatching.quarantine(epoch, "5", "unreadable")

    taken = cancelling.cancel(["held", "bad"])

    assert [waiting.due_ms for waiting in taken["held"] + taken["bad"]] == [2000, None]
    assert timetable.quarantined() == {}
    assert not timetable.client.exists(keys.held, keys.entry(3), keys.entry(5))


def test_many_ids_are_cancelled_in_one_call(timetable: Timetable, cancelling: Cancelling) -> None:
    number = 2 * BATCH + 7
    for index in range(number):
        put(timetable, 2 * index + 1, f"task-{index}")
    for index in range(BATCH + 3):
        put(timetable, 10_001 + 2 * index, "often")

    taken = cancelling.cancel(["often", *(f"task-{index}" for index in range(number)), "often"])

    assert [len(waiting) for waiting in taken.values()] == [BATCH + 3] + [1] * number
    assert timetable.count() == (0, 0)


def test_the_leader_hears_of_a_cancelled_task(timetable: Timetable, cancelling: Cancelling, redis_client: redis.Redis, keys: Keys) -> None:
    put(timetable, 3, "a")
    put(timetable, 5, "b")
    news = NewsReader(redis_client, keys)
    news.catch_up()

    cancelling.cancel(["a", "b", "unknown"])

    heard, missed = news.read(block_ms=1000)
    assert ([piece.entries() for piece in heard], missed) == ([[(3, None), (5, None)]], False)


def test_what_is_stored_under_a_cancelled_id_afterwards_waits(timetable: Timetable, cancelling: Cancelling) -> None:
    put(timetable, 3, "a")
    cancelling.cancel(["a"])

    put(timetable, 5, "a")

    assert timetable.nearest(5) == [(2000, 5)]
    assert cancelling.listed(["a"]) == {"a": [5]}


def test_a_stale_listing_is_struck_out_and_not_counted(timetable: Timetable, cancelling: Cancelling, keys: Keys) -> None:
    timetable.client.hset(keys.by_task, "a", "3 5")
    put(timetable, 7, "a")

    assert [waiting.entry_id for waiting in cancelling.cancel(["a"])["a"]] == [7]
    assert cancelling.listed(["a"]) == {}


def test_cancelling_works_when_memory_is_full(timetable: Timetable, cancelling: Cancelling, redis_client: redis.Redis, keys: Keys) -> None:
    put(timetable, 3, "a")
    redis_client.config_set("maxmemory", 1)
    try:
        assert len(cancelling.cancel(["a"])["a"]) == 1
    finally:
        redis_client.config_set("maxmemory", 0)
    assert redis_client.zscore(keys.cancelled, "a") is not None


def test_old_tombstones_are_struck_out_by_new_ones(
    timetable: Timetable, cancelling: Cancelling, redis_client: redis.Redis, keys: Keys
) -> None:
    now_ms = timetable.now_ms()
    redis_client.zadd(keys.cancelled, {"old": now_ms - CANCELLED_KEPT_MS - 1, "younger": now_ms - CANCELLED_KEPT_MS + 60_000})

    cancelling.cancel(["new"])

    assert redis_client.zrange(keys.cancelled, 0, -1) == [b"younger", b"new"]


@pytest.fixture
def proxy(redis_server: EmbeddedServer) -> Iterator[CuttingProxy]:
    with CuttingProxy(redis_server.socket_path) as proxy:
        yield proxy


@pytest.mark.parametrize("cut", [1, 2])
def test_a_call_whose_answer_was_lost_is_answered_as_if_it_had_not_been(
    timetable: Timetable, keys: Keys, proxy: CuttingProxy, cut: int
) -> None:
    put(timetable, 3, "a")
    with proxy.client() as client:
        cancelling = Cancelling(client, keys)
        cancelling.cancel(["warm up"])
        proxy.cut_answers_to(b"EVALSHA", number=cut)

        (waiting,) = cancelling.cancel(["a"])["a"]

    assert waiting.entry_id == 3
    assert proxy.cuts == 1


def test_a_repeated_call_takes_nothing_that_was_stored_after_the_first(
    timetable: Timetable, keys: Keys, proxy: CuttingProxy, cancelling: Cancelling
) -> None:
    put(timetable, 3, "a")
    with proxy.client() as client:
        cutting = Cancelling(client, keys)
        cutting.cancel(["warm up"])
        proxy.cut_answers_to(b"EVALSHA", number=2, meanwhile=lambda: put(timetable, 5, "a"))

        taken = cutting.cancel(["a"])["a"]

    assert [waiting.entry_id for waiting in taken] == [3]
    assert cancelling.listed(["a"]) == {"a": [5]}


def test_a_search_reads_only_what_holds_the_text(timetable: Timetable, cancelling: Cancelling) -> None:
    for index in range(1200):
        put(timetable, 2 * index + 1, f"task-{index}", due_ms=2000 + index // 700, message=b'{"stamps": {"customer": %d}}' % index)
    timetable.writing.hold(7, pause=True)
    timetable.client.zadd(timetable.keys.due, {"2": 2000})

    pages = list(cancelling.pages())

    ids = [entry_id for page in pages for entry_id in page]
    assert sorted(ids) == [2 * index + 1 for index in range(1200)]
    assert [found for page in pages for found in cancelling.containing(page, [b'"customer": 3}', b'"customer": 77}'])] == [155, 7]
