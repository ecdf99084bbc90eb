"""The instruments of the fault matrix: what they do to a process or a network is done, and what they note is what was there."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from celery import Celery

from celery_tw import TimeWheel
from celery_tw.embedded import EmbeddedServer
from celery_tw.stores.redis.keys import Keys
from celery_tw.testing.ledger import Ledger, Line, What
from celery_tw.testing.oracles import unaccounted
from tests.closing import close
from tests.faults.one_time_tasks import OneTimeTasks
from tests.faults.queue_reader import QueueReader
from tests.faults.scene import runs_elsewhere
from tests.faults.wall_clock import WallClock, why_no_shifted_clocks
from tests.faults.wire import Wire
from tests.waiting import wait_until

TELL_TIME = "import time; print(time.time_ns() // 1_000_000)"


@pytest.fixture
def wire(redis_server: EmbeddedServer, redis_client: redis.Redis) -> Iterator[Wire]:
    with Wire(redis_server.socket_path) as wire:
        yield wire


def test_a_deaf_wire_swallows_the_question(wire: Wire, redis_client: redis.Redis) -> None:
    with wire.client() as client:
        client.connection_pool.connection_kwargs["socket_timeout"] = 0.2
        wire.part(silent=False)
        with pytest.raises(redis.TimeoutError):
            client.incr("asked")

        wire.heal()
        assert client.incr("asked") == 1


def test_a_silent_wire_swallows_the_answer_to_what_was_carried_out(wire: Wire, redis_client: redis.Redis) -> None:
    with wire.client() as client:
        client.connection_pool.connection_kwargs["socket_timeout"] = 0.2
        client.ping()
        wire.part(deaf=False)
        with pytest.raises(redis.TimeoutError):
            client.incr("asked")

    wait_until(lambda: redis_client.get("asked") == b"1")


def test_a_wire_resets_what_is_open_and_leads_to_another_server(wire: Wire, redis_client: redis.Redis) -> None:
    with EmbeddedServer.start() as other, wire.client() as client, other.client() as there:
        client.set("here", 1)
        wire.lead_to(other.socket_path)
        client.set("there", 1)

        assert (there.get("here"), there.get("there")) == (None, b"1")


def test_a_wire_outlives_its_server(wire: Wire, redis_server: EmbeddedServer) -> None:
    with wire.client() as client:
        wire.lead_to("/nowhere")
        with pytest.raises(redis.ConnectionError):
            client.ping()

        wire.lead_to(redis_server.socket_path)
        assert client.ping()


def test_a_shifted_clock_is_seen_by_its_processes_alone(tmp_path: Path) -> None:
    if why_no_shifted_clocks():
        pytest.skip(str(why_no_shifted_clocks()))
    clock, day_ms = WallClock(tmp_path), 86_400_000

    def told_ms() -> int:
        return int(subprocess.check_output([sys.executable, "-c", TELL_TIME], env=dict(clock.environment)))

    before_ms = time.time_ns() // 1_000_000
    assert 0 <= told_ms() - before_ms < day_ms
    clock.shift(10 * day_ms)
    assert 10 * day_ms <= told_ms() - before_ms < 11 * day_ms
    clock.shift(-20 * day_ms)
    assert -10 * day_ms <= told_ms() - before_ms < -9 * day_ms
    assert time.time_ns() // 1_000_000 - before_ms < day_ms


@pytest.fixture
def reader(redis_server: EmbeddedServer, redis_client: redis.Redis, tmp_path: Path) -> Iterator[QueueReader]:
    reader = QueueReader(Ledger(tmp_path / "observed"), redis_server.client, now_ms=lambda: 9_000)
    reader.start()
    yield reader
    reader.stop()


def message(slot_ms: int) -> str:
    return json.dumps({"headers": {"id": f"id-{slot_ms}", "tw_mid": f"mid-{slot_ms}", "tw_slot": slot_ms, "periodic_task_name": "tick"}})


def noted(reader: QueueReader) -> list[int | None]:
    return [line.slot_ms for line in reader.ledger.lines()]


def test_each_message_is_noted_once_and_stays_in_the_queue(reader: QueueReader, redis_client: redis.Redis) -> None:
    redis_client.lpush("celery", message(1), message(2))
    wait_until(lambda: noted(reader) == [1, 2])
    redis_client.lpush("celery", message(3))
    wait_until(lambda: noted(reader) == [1, 2, 3])

    assert redis_client.llen("celery") == 3
    assert reader.last_ms == {"tick": 3}


def test_what_comes_again_after_an_older_state_was_restored_is_noted_again(reader: QueueReader, redis_client: redis.Redis) -> None:
    redis_client.lpush("celery", *(message(slot_ms) for slot_ms in (1, 2, 3)))
    wait_until(lambda: noted(reader) == [1, 2, 3])

    redis_client.pipeline().ltrim("celery", 2, 2).lpush("celery", message(20), message(2), message(3)).execute()

    wait_until(lambda: noted(reader) == [1, 2, 3, 20, 2, 3], message="what came in place of the lost")


# One-time tasks


@pytest.fixture
def shop(redis_server: EmbeddedServer, redis_client: redis.Redis) -> Iterator[Celery]:
    app = Celery("shop", broker=redis_server.url, backend=redis_server.url, set_as_current=False)
    app.task(name="shop.record", shared=False)(runs_elsewhere)
    yield app
    close(app)


def received(name: str) -> Line:
    return Line(what=What.RECEIVED, at_ms=0, entry=name, slot_ms=0)


def test_each_one_time_task_is_accounted_for_whether_it_waits_was_fired_or_removed(shop: Celery) -> None:
    timewheel, tasks, now_ms = TimeWheel(shop), OneTimeTasks(random.Random(1)), time.time_ns() // 1_000_000
    names = tasks.store(shop, timewheel, now_ms=now_ms)
    tasks.remove_some(timewheel, names)

    account = tasks.account(timewheel)

    assert set(account.added) == set(names)
    assert len(account.cancelled) == 3
    assert set(account.waiting) == set(names) - set(account.cancelled)
    assert list(unaccounted([], account)) == []
    assert not tasks.are_settled(timewheel, now_ms=now_ms)


def test_a_task_that_was_lost_or_removed_and_fired_all_the_same_is_found(shop: Celery, redis_client: redis.Redis) -> None:
    timewheel, tasks, keys = TimeWheel(shop), OneTimeTasks(random.Random(1)), Keys("shop")
    names = tasks.store(shop, timewheel, now_ms=time.time_ns() // 1_000_000)
    tasks.remove_some(timewheel, names)
    lost, *others = sorted(set(names) - tasks.removed)
    removed = sorted(tasks.removed)[0]
    entry_id = int(redis_client.hget(keys.names, lost) or 0)
    redis_client.pipeline().zrem(keys.due, entry_id).delete(keys.entry(entry_id)).hdel(keys.names, lost).execute()

    found = list(unaccounted([received(removed), received(others[0])], tasks.account(timewheel)))

    assert {violation.entry: violation.what.split(" is ")[1] for violation in found} == {
        lost: "nowhere",
        removed: "fired and cancelled",
        others[0]: "fired and waiting",
    }
