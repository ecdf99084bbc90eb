"""Long tasks whose workers die, are paused or deployed away: they go on from their last checkpoint, and end once."""

import os
import signal
from collections.abc import Callable
from itertools import pairwise

import pytest

from tests.processes.yard import POINTS, TIMEOUT_S, Yard, children_of, kill_all_of, running_child, wait_for_a_stopped_child
from tests.waiting import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.long, pytest.mark.timeout(240)]

INTERVAL = 100


def test_a_killed_child_of_a_long_task_goes_on_from_its_checkpoint_at_once(yard: Yard) -> None:
    worker = yard.worker()
    result = yard.send("count", 3000)
    done = yard.wait_for_progress(result, 500)

    os.kill(running_child(worker), signal.SIGKILL)

    assert result.get(timeout=TIMEOUT_S) == 3000
    first, second, last = yard.values(result.id)
    assert second["from"] >= done
    assert second["token"] > first["token"]
    assert last["to"] == 3000
    assert yard.steps() <= 3000 + INTERVAL


def test_a_killed_worker_of_a_long_task_is_noticed_by_its_silence(yard: Yard) -> None:
    worker = yard.worker()
    result = yard.send("count", 3000)
    done = yard.wait_for_progress(result, 500)

    kill_all_of(worker)
    yard.worker()

    assert result.get(timeout=TIMEOUT_S) == 3000
    assert yard.values(result.id)[1]["from"] >= done
    assert yard.steps() <= 3000 + INTERVAL


def test_a_long_task_goes_on_though_the_message_that_starts_it_again_is_lost(yard: Yard) -> None:
    worker = yard.worker()
    result = yard.send("count", 3000)
    done = yard.wait_for_progress(result, 500)
    kill_all_of(worker)

    with yard.app.connection_for_read() as connection, connection.SimpleQueue(yard.app.conf.task_default_queue) as queue:
        queue.get(timeout=TIMEOUT_S).ack()
    yard.worker()

    assert result.get(timeout=TIMEOUT_S) == 3000
    assert yard.values(result.id)[1]["from"] >= done
    assert yard.steps() <= 3000 + INTERVAL


@pytest.mark.parametrize("victim", ["child", "parent"])
@pytest.mark.parametrize("point", POINTS)
def test_a_long_task_ends_once_whenever_its_worker_dies(yard: Yard, victim: str, point: str) -> None:
    if victim == "child":
        yard.worker_with_a_child_to_die(point)
        result = yard.send("count", 200)
    else:
        worker = yard.worker_to_stop(point)
        result = yard.send("count", 200)
        wait_for_a_stopped_child(worker)
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
        yard.worker()

    assert result.get(timeout=TIMEOUT_S) == 200
    yard.wait_until_nothing_runs()
    assert yard.steps() == 200, "at R2 its last checkpoint has all of it"
    assert yard.values(result.id)[-1] == {"to": 200}


def test_three_deaths_and_a_deployment_repeat_at_most_one_interval_each(yard: Yard) -> None:
    result, known, worker = yard.send("count", 8000), [0], yard.worker()
    for death in (1, 2, 3):
        known.append(yard.wait_for_progress(result, 1000 * death))
        if death == 2:
            os.kill(running_child(worker), signal.SIGKILL)
            continue
        kill_all_of(worker)
        worker = yard.worker()
    known.append(yard.wait_for_progress(result, 4500))
    worker.send(signal.SIGTERM)
    assert worker.wait(TIMEOUT_S) == 0
    yard.worker()

    assert result.get(timeout=TIMEOUT_S) == 8000
    begun = [line["from"] for line in yard.values(result.id) if "from" in line]
    assert len(begun) == 5
    assert all(since >= saved for since, saved in zip(begun, known, strict=True)), (begun, known)
    assert 8000 <= yard.steps() <= 8000 + 3 * INTERVAL, "the deployment repeats nothing"
    assert all(later["token"] > earlier["token"] for earlier, later in pairwise(line for line in yard.values(result.id) if "from" in line))


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_warm_shutdown_lets_a_long_task_go_on_elsewhere(make_yard: Callable[..., Yard], pool: str) -> None:
    yard = make_yard().beat()
    worker = yard.worker(pool)
    result = yard.send("count", 4000)
    done = yard.wait_for_progress(result, 300)

    worker.send(signal.SIGTERM)
    assert worker.wait(20) == 0
    yard.worker(pool)

    assert result.get(timeout=TIMEOUT_S) == 4000
    assert yard.values(result.id)[1]["from"] >= done
    assert yard.steps() == 4000, "it saved before it yielded"


@pytest.mark.parametrize("how", ["SIGQUIT", "SIGTERM twice"])
@pytest.mark.parametrize("name", ["count", "slow"])
def test_a_cold_shutdown_returns_the_run(yard: Yard, name: str, how: str) -> None:
    worker = yard.worker()
    result = yard.send("count", 4000) if name == "count" else yard.send("slow", "a", 3.0)
    yard.wait_for_lines(result.id, 1)

    if how == "SIGQUIT":
        worker.send(signal.SIGQUIT)
    else:
        worker.send(signal.SIGTERM)
        wait_until(lambda: "Warm shutdown" in worker.logs(), TIMEOUT_S, message="the shutdown to begin")
        worker.send(signal.SIGTERM)
    worker.wait(TIMEOUT_S)
    yard.worker()

    assert result.get(timeout=TIMEOUT_S) == (4000 if name == "count" else "a")
    yard.wait_until_nothing_runs()
    if name == "count":
        assert yard.steps() <= 4000 + INTERVAL


def test_a_worker_that_was_paused_past_its_lease_can_write_nothing_when_it_wakes(yard: Yard) -> None:
    paused = yard.worker()
    result = yard.send("count", 3000)
    done = yard.wait_for_progress(result, 500)
    os.killpg(paused.pid, signal.SIGSTOP)
    yard.worker()
    yard.wait_for_lines(result.id, 2)

    os.killpg(paused.pid, signal.SIGCONT)

    assert result.get(timeout=TIMEOUT_S) == 3000
    wait_until(lambda: "is not this process's any more" in paused.logs(), TIMEOUT_S, message="the one that woke to be refused")
    yard.wait_until_nothing_runs()
    begun = [value for value in yard.values(result.id) if "from" in value]
    assert [value["from"] >= done for value in begun] == [False, True]
    assert [value for value in yard.values(result.id) if "to" in value] == [{"to": 3000}], "one of them came to the end"
    assert result.state == "SUCCESS"
    assert children_of(paused), "it works on"


def test_a_task_that_ran_in_a_paused_worker_is_completed_once(yard: Yard) -> None:
    """On Redis the broker brings its message to another worker meanwhile; on RabbitMQ the one that woke gives it back."""
    paused = yard.worker(concurrency=1)
    result = yard.app.signature("shop.slow", ("a", 1.5), link=yard.task("once")).apply_async()
    yard.wait_for_lines(result.id, 1)
    os.killpg(paused.pid, signal.SIGSTOP)
    wait_until(lambda: not yard.wheel.runs.under_way(), TIMEOUT_S, message="its silence to be noticed")
    yard.worker()

    os.killpg(paused.pid, signal.SIGCONT)

    assert result.get(timeout=TIMEOUT_S) == "a"
    wait_until(lambda: [line for line in yard.ledger.lines() if line.task == "shop.once"], TIMEOUT_S, message="the callback to run")
    wait_until(lambda: "is not this process's any more" in paused.logs(), TIMEOUT_S, message="the one that woke to be refused")
    yard.wait_until_nothing_runs()
    assert len([line for line in yard.ledger.lines() if line.task == "shop.once"]) == 1, "the callback runs once"
