"""Dead letters, with real workers: each way to die ends in exactly one letter, which is replayed to success once the cause is gone.

The whole matrix, of ways to die, pools and brokers: ``python -m pytest -m "long or not long" tests/processes/test_dead_letters.py``.
"""

import os
import signal
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from celery.result import AsyncResult
from kombu import Exchange, Queue

from celery_tw.embedded import EmbeddedServer
from celery_tw.integration.dlq.letter_views import Imported
from celery_tw.integration.dlq.log_lines import PREFIX
from tests.processes.container import ProcessContainer
from tests.processes.deaths import EVERY_POOL, ends, letters_of, ways_in
from tests.processes.yard import TIMEOUT_S, Yard
from tests.waiting import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

BROKERS = ("redis", "rabbitmq")
QUICK_PART = ("prefork", "redis")
EVERY_PLACE = [
    pytest.param(pool, broker, id=f"{pool}, {broker}", marks=[] if (pool, broker) == QUICK_PART else pytest.mark.long)
    for pool, broker in product(EVERY_POOL, BROKERS)
]
MOST_REASSIGNMENTS, MOST_REDELIVERIES = 1, 2

MakeYard = Callable[..., Yard]


@pytest.fixture
def make_place(on_broker: MakeYard) -> MakeYard:
    """Make a yard whose tasks die until they are mended, on a broker."""

    def make(broker: str, **settings: Any) -> Yard:
        limits = {"tw_max_reassignments": MOST_REASSIGNMENTS, "tw_dlq_max_redeliveries": MOST_REDELIVERIES}
        return on_broker(broker, module="dying", **{**limits, **settings}).beat()

    return make


def mend(yard: Yard) -> None:
    """Remove the cause of all deaths."""
    Path(f"{yard.processes.ledger}.mended").touch()


def spoil(yard: Yard) -> None:
    """Let the tasks that wait die."""
    Path(f"{yard.processes.ledger}.spoilt").touch()


def shut_down(worker: ProcessContainer) -> None:
    worker.send(signal.SIGTERM)
    worker.wait(TIMEOUT_S)


def wait_for_letters(yard: Yard, results: list[AsyncResult]) -> None:
    wait_until(lambda: all(letters_of(yard, result) for result in results), TIMEOUT_S, message="each to be a dead letter")


def wait_for_success(yard: Yard, result: AsyncResult) -> None:
    """Wait for the result of a replay; that of the death is there already, under the same id."""
    wait_until(lambda: state_of(yard, result) == "SUCCESS", TIMEOUT_S, message=f"{result.id} to succeed")


def state_of(yard: Yard, result: AsyncResult) -> str:
    return str(AsyncResult(result.id, app=yard.app).state)


@pytest.mark.parametrize(("pool", "broker"), EVERY_PLACE)
def test_each_way_to_die_ends_in_one_letter_that_is_replayed_to_success(make_place: MakeYard, pool: str, broker: str) -> None:
    yard = make_place(broker, broker_transport_options={})
    worker = yard.worker(pool)
    ways = ways_in(pool)
    sent = {name: way.send(yard) for name, way in ways.items()}
    wait_for_letters(yard, list(sent.values()))
    assert yard.send("pays", "good").get(timeout=TIMEOUT_S) == "good", "the worker goes on"
    shut_down(worker)

    reasons = {name: [(letter.reason, letter.count) for letter in letters_of(yard, result)] for name, result in sent.items()}
    assert reasons == {name: [(way.reason, 1)] for name, way in ways.items()}
    assert not any(ends(yard, result) for result in sent.values())

    mend(yard)
    yard.worker(pool, accept_content=["json", "shops-own"])
    for name, way in ways.items():
        (letter,) = letters_of(yard, sent[name])
        assert yard.wheel.dlq.requeue(ids=[letter.letter_id], **way.repaired).count == 1
    for result in sent.values():
        wait_for_success(yard, result)
    yard.wait_until_nothing_runs()

    assert {name: ends(yard, result) for name, result in sent.items()} == dict.fromkeys(ways, 1)
    assert yard.wheel.dlq.count() == 0


@pytest.mark.long
@pytest.mark.parametrize(("pool", "broker"), [pytest.param(*place, id=", ".join(place)) for place in product(EVERY_POOL, BROKERS)])
@pytest.mark.parametrize(("name", "reason", "most"), [("poisons", "lost", MOST_REASSIGNMENTS), ("kills", "redelivered", MOST_REDELIVERIES)])
def test_a_message_that_takes_each_worker_down_is_buried_and_replayed_to_success(
    make_place: MakeYard, pool: str, broker: str, name: str, reason: str, most: int
) -> None:
    yard = make_place(broker, tw_dlq="all")
    result = yard.send(name, "a")
    deaths = 0
    while not letters_of(yard, result):
        worker = yard.start_worker(pool, concurrency=1)
        wait_until(lambda worker=worker: worker.status == "exited" or letters_of(yard, result), TIMEOUT_S, message="its next death")
        deaths += worker.status == "exited"
        assert deaths <= most + 1

    assert [(letter.reason, letter.count) for letter in letters_of(yard, result)] == [(reason, 1)]
    assert deaths == most + 1, "the first time, and as often as it may begin again"
    assert yard.values(result.id).count("begins") == deaths
    assert yard.send("pays", "good").get(timeout=TIMEOUT_S) == "good", "the worker that buries it goes on"

    mend(yard)
    assert yard.wheel.dlq.requeue(reason=reason).count == 1
    wait_for_success(yard, result)
    yard.wait_until_nothing_runs()
    assert ends(yard, result) == 1
    assert yard.wheel.dlq.count() == 0


@pytest.mark.long
@pytest.mark.parametrize("pool", EVERY_POOL)
def test_a_message_that_the_broker_refuses_is_buried_and_replayed_to_success(make_place: MakeYard, pool: str) -> None:
    yard = make_place("rabbitmq")
    queue = yard.app.conf.task_default_queue
    result = yard.task("pays", "a").apply_async(countdown=2.5, exchange=f"{queue}-closed", routing_key="x")
    wait_until(lambda: letters_of(yard, result), 2 * TIMEOUT_S, message="it to be buried")
    assert [(letter.reason, letter.count) for letter in letters_of(yard, result)] == [("refused", 1)]

    with yard.app.connection_for_write() as connection:
        Queue(queue, Exchange(f"{queue}-closed", "direct", auto_delete=True), routing_key="x")(connection).declare()
    yard.worker(pool)
    assert yard.wheel.dlq.requeue(reason="refused").count == 1

    wait_for_success(yard, result)
    assert ends(yard, result) == 1
    assert (yard.wheel.dlq.count(), yard.wheel.status().buried) == (0, 0)


@pytest.mark.long
@pytest.mark.parametrize("pool", EVERY_POOL)
def test_what_dies_while_redis_is_away_is_brought_back_from_the_log(make_place: MakeYard, server: EmbeddedServer, pool: str) -> None:
    yard = make_place("rabbitmq", tw_dlq="all", result_backend=None)
    worker = yard.worker(pool)
    server.kill()
    results = [yard.send(name, "a", ignore_result=True) for name in ("breaks", "unknown")]
    wait_until(lambda: worker.logs().count(PREFIX) == len(results), TIMEOUT_S, message="both letters to be logged")
    shut_down(worker)
    server.restart()

    assert yard.wheel.dlq.import_lines(worker.logs().splitlines()) == Imported(letters=2, unreadable=0)
    assert [letter.reason for result in results for letter in letters_of(yard, result)] == ["failed", "unregistered"]

    mend(yard)
    yard.worker(pool)
    assert yard.wheel.dlq.requeue().count == 2
    wait_until(lambda: all(ends(yard, result) for result in results), TIMEOUT_S, message="both replays to end")
    assert yard.wheel.dlq.count() == 0


@pytest.mark.long
@pytest.mark.parametrize("broker", BROKERS)
def test_a_run_that_stood_still_was_buried_and_requeued_has_one_body_that_comes_to_its_end(make_place: MakeYard, broker: str) -> None:
    yard = make_place(broker, tw_max_reassignments=0)
    asleep = yard.worker(concurrency=1)
    result = yard.send("counts", 400)
    yard.wait_for_lines(result.id, 1)
    os.killpg(asleep.pid, signal.SIGSTOP)
    wait_for_letters(yard, [result])
    assert letters_of(yard, result)[0].reason == "lost"

    yard.worker(concurrency=1)
    assert yard.wheel.dlq.requeue(ids=[letters_of(yard, result)[0].letter_id]).count == 1
    yard.wait_for_lines(result.id, 2)
    os.killpg(asleep.pid, signal.SIGCONT)

    wait_for_success(yard, result)
    wait_until(lambda: "is not this process's any more" in asleep.logs(), TIMEOUT_S, message="the one that woke to be refused")
    yard.wait_until_nothing_runs()
    assert ends(yard, result) == 1
    assert (state_of(yard, result), yard.wheel.dlq.count()) == ("SUCCESS", 0)


@pytest.mark.long
def test_what_a_body_that_stood_still_returns_after_its_replay_is_dropped(make_place: MakeYard) -> None:
    """A plain task asks nobody whether to go on, so its body may come to an end; nothing of that counts."""
    yard = make_place("redis")
    asleep = yard.worker(concurrency=1)
    result = yard.task("waits", "a").apply_async(link=yard.task("pays"))
    yard.wait_for_lines(result.id, 1)
    os.killpg(asleep.pid, signal.SIGSTOP)
    spoil(yard)
    yard.worker(concurrency=1)
    wait_for_letters(yard, [result])

    mend(yard)
    assert yard.wheel.dlq.requeue(exception="OSError").count == 1
    wait_for_success(yard, result)
    os.killpg(asleep.pid, signal.SIGCONT)

    wait_until(lambda: "is not this process's any more" in asleep.logs(), TIMEOUT_S, message="the one that woke to be refused")
    yard.wait_until_nothing_runs()
    assert len([line for line in yard.ledger.lines() if line.task == "shop.pays"]) == 1, "the callback runs once"
    assert (state_of(yard, result), yard.wheel.dlq.count()) == ("SUCCESS", 0)
