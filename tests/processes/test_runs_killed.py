"""Workers that are killed at each point of a run: the pool process alone, or the main process and so the whole worker.

=====  =============================================  =============================
point  the process dies                               the body runs
=====  =============================================  =============================
R1     before the body                                once, in the next process
R2     after the body, before its result is on record twice: it was interrupted
R3     before Celery has passed the result on         once
R4     before the run is finished                     once
R5     before the message is acknowledged             once
=====  =============================================  =============================
"""

import os
import signal
from collections.abc import Callable

import pytest
from billiard.exceptions import WorkerLostError
from celery import chain, chord
from celery.result import AsyncResult

from tests.processes.yard import POINTS, TIMEOUT_S, Yard, kill_all_of, wait_for_a_stopped_child
from tests.waiting import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.long, pytest.mark.timeout(240)]

VICTIMS = ["child", "parent"]


def lose(yard: Yard, victim: str, point: str, send: Callable[[], AsyncResult]) -> AsyncResult:
    """Send something to a worker that loses a process at *point*; return its result when another can take over."""
    if victim == "child":
        yard.worker_with_a_child_to_die(point)
        result = send()
        wait_until((yard.processes.folder / "died").exists, TIMEOUT_S, message="a child to die")
        return result
    worker = yard.worker_to_stop(point)
    result = send()
    wait_for_a_stopped_child(worker)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    yard.worker()
    return result


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("point", POINTS)
def test_a_task_has_its_result_once_whenever_its_worker_dies(yard: Yard, victim: str, point: str) -> None:
    result = lose(yard, victim, point, lambda: yard.send("once", 1))

    assert result.get(timeout=TIMEOUT_S) == 1
    yard.wait_until_nothing_runs()
    assert len(yard.lines(result.id)) == (2 if point == "R2" else 1)


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("point", POINTS)
def test_a_chain_is_completed_once_whenever_its_worker_dies(yard: Yard, victim: str, point: str) -> None:
    result = lose(yard, victim, point, lambda: chain(yard.task("once", 1), yard.task("once", 2), app=yard.app).apply_async())

    assert result.get(timeout=TIMEOUT_S) == 1
    yard.wait_until_nothing_runs()
    assert len(yard.lines(result.id)) == 1, "the child runs once"
    assert len(yard.lines(result.parent.id)) == (2 if point == "R2" else 1), "a body whose result is on record does not run again"


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("point", POINTS)
def test_a_chord_is_completed_once_whenever_the_worker_of_a_part_dies(yard: Yard, victim: str, point: str) -> None:
    parts = [yard.task("once", number) for number in (1, 2, 3)]
    result = lose(yard, victim, point, lambda: chord(parts, app=yard.app)(yard.task("gather")))

    assert result.get(timeout=TIMEOUT_S) == 6
    yard.wait_until_nothing_runs()
    bodies = [line for line in yard.ledger.lines() if line.task == "shop.once"]
    assert len({line.task_id for line in bodies}) == 3
    assert len(bodies) == (4 if point == "R2" else 3)
    assert len(yard.lines(result.id)) == 1, "the body of the chord runs once"


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("point", POINTS)
def test_a_task_that_is_acknowledged_early_runs_at_most_once_and_leaves_its_lock_free(yard: Yard, victim: str, point: str) -> None:
    result = lose(yard, victim, point, lambda: yard.send("early", 1))

    after = yard.send("early", 2)
    assert after.get(timeout=TIMEOUT_S) == 2, "the lock of the dead is free"
    yard.wait_until_nothing_runs()
    assert len(yard.lines(result.id)) == (0 if point == "R1" else 1)
    if point in ("R3", "R4", "R5"):
        assert result.get(timeout=TIMEOUT_S) == 1
    elif victim == "child":
        with pytest.raises(WorkerLostError):
            result.get(timeout=TIMEOUT_S)
    else:
        assert result.state == "PENDING", "the broker has no copy, and nobody is left who knows of it"


@pytest.mark.parametrize("countdown", [0, 2.5])
@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("point", ["R1", "R4", "R5"])
def test_a_retry_is_made_once_whenever_the_worker_that_asks_for_it_dies(yard: Yard, victim: str, point: str, countdown: float) -> None:
    result = lose(yard, victim, point, lambda: yard.send("flaky", countdown))

    assert result.get(timeout=TIMEOUT_S) == 2
    yard.wait_until_nothing_runs()
    assert yard.values(result.id) == [0, 1, 2]


def test_a_whole_worker_killed_with_many_tasks_in_hand_loses_none(yard: Yard) -> None:
    worker = yard.worker(worker_prefetch_multiplier=4)
    results = [yard.send("slow", str(number), 0.2) for number in range(20)]
    wait_until(lambda: len(yard.ledger.lines()) >= 8, TIMEOUT_S, message="some to run")
    kill_all_of(worker)
    yard.worker()

    assert [result.get(timeout=TIMEOUT_S) for result in results] == [str(number) for number in range(20)]
