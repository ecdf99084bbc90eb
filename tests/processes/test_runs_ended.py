"""Runs that are made to end: by a time limit, by a revoke, and by one loss too many."""

from collections.abc import Callable

import pytest
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery import chord
from celery.exceptions import ChordError, TaskRevokedError

from tests.processes.yard import TIMEOUT_S, Yard, kill_all_of
from tests.waiting import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.long, pytest.mark.timeout(240)]


@pytest.mark.parametrize(("name", "args"), [("count", (100_000,)), ("slow", ("a", 60.0))])
def test_a_hard_time_limit_ends_the_run_and_frees_its_lock(yard: Yard, name: str, args: tuple) -> None:
    yard.worker()
    result = yard.send(name, *args, time_limit=1)

    with pytest.raises(TimeLimitExceeded):
        result.get(timeout=TIMEOUT_S)

    yard.wait_until_nothing_runs()
    assert yard.send("slow", "a", 0).get(timeout=TIMEOUT_S) == "a", "a run with the same lock begins, on the process that took its place"
    assert len([line for line in yard.lines(result.id) if line.value != "ends"]) == 1, "nobody starts it again"
    assert result.state == "FAILURE"


@pytest.mark.parametrize(("name", "args"), [("count", (100_000,)), ("slow", ("a", 60.0))])
def test_a_revoke_that_terminates_ends_the_run_and_frees_its_lock(yard: Yard, name: str, args: tuple) -> None:
    yard.worker()
    result = yard.send(name, *args)
    yard.wait_for_lines(result.id, 1)

    result.revoke(terminate=True)

    with pytest.raises(TaskRevokedError):
        result.get(timeout=TIMEOUT_S)
    yard.wait_until_nothing_runs()
    assert yard.send("slow", "a", 0).get(timeout=TIMEOUT_S) == "a", "a run with the same lock begins"
    assert len(yard.lines(result.id)) == 1, "nobody starts it again"
    assert result.state == "REVOKED"


@pytest.mark.parametrize("name", ["doomed", "doomed_long"])
def test_one_loss_too_many_fails_the_task_once_and_tells_errback_and_chord(make_yard: Callable[..., Yard], name: str) -> None:
    yard = make_yard(tw_max_reassignments=2).beat()
    yard.worker()
    doomed = yard.task(name)
    doomed.link_error(yard.task("told"))
    body = chord([doomed, yard.task("once", 1)], app=yard.app)(yard.task("gather"))
    part = body.parent.results[0]

    assert isinstance(body.get(timeout=TIMEOUT_S, propagate=False), ChordError)
    with pytest.raises(WorkerLostError):
        part.get(timeout=TIMEOUT_S)

    yard.wait_until_nothing_runs()
    assert len([line for line in yard.lines(part.id) if line.task != "shop.told"]) == 3, "the first time, and two more"
    wait_until(lambda: [line.value for line in yard.lines(part.id) if line.task == "shop.told"] == ["WorkerLostError"], TIMEOUT_S)
    assert not yard.lines(body.id), "the body of the chord does not run"


def test_the_leader_fails_a_long_task_whose_whole_worker_was_lost_too_often(make_yard: Callable[..., Yard]) -> None:
    yard = make_yard(tw_max_reassignments=0).beat()
    worker = yard.worker()
    counting = yard.task("count", 100_000)
    counting.link_error(yard.task("told"))
    result = counting.apply_async()
    yard.wait_for_lines(result.id, 1)

    kill_all_of(worker)

    with pytest.raises(WorkerLostError):
        result.get(timeout=TIMEOUT_S)
    wait_until(lambda: [line for line in yard.lines(result.id) if line.task == "shop.told"], TIMEOUT_S, message="its errback to be told")
    assert [line.value for line in yard.lines(result.id) if line.task == "shop.told"] == ["WorkerLostError"]
    assert not yard.wheel.runs.under_way()
