"""DAGs as entries that may not overlap, with real beats and workers: a run is there until it has ended, not until it has been submitted."""

import os
import signal
from collections.abc import Callable
from itertools import groupby
from typing import Any
from uuid import uuid4

import pytest

from celery_tw import DAG, Misfire, every
from tests.processes.processes import Processes
from tests.processes.works import TIMEOUT_S, Works
from tests.waiting import wait_until

pytestmark = pytest.mark.processes

MakeWorks = Callable[..., Works]


@pytest.fixture(params=["redis", pytest.param("rabbitmq", marks=pytest.mark.long)])
def works(request: pytest.FixtureRequest, make_works: MakeWorks, processes: Processes) -> Works:
    if request.param == "redis":
        return make_works()
    url = request.getfixturevalue("rabbitmq_url")
    return make_works(broker_url=url, tw_redis_url=processes.url, task_default_queue=f"tw-{uuid4().hex}")


def schedule(works: Works, *, seconds: float, **options: Any) -> None:
    """Schedule two nodes, one after the other, each second; each of them takes that many *seconds*."""
    step = works.app.tasks["shop.step"]
    with DAG("graph") as dag:
        dag.node("b", step.s("b", seconds), after=[dag.node("a", step.s("a", seconds))])
    works.wheel.schedule("work", dag, every(1), **options)


def runs_begun(works: Works) -> list[str]:
    """Return the ids of the runs, in the order in which the first node of each began."""
    return [line.task_id.partition(".")[0] for line in works.ledger.lines() if line.value == ["begins", "a"]]


def wait_for_runs(works: Works, number: int) -> None:
    wait_until(lambda: len(runs_begun(works)) >= number, TIMEOUT_S, message=f"{number} runs to begin")


def stretches(works: Works) -> list[str]:
    """Return the runs in the order of their lines in the ledger; one that another ran beside stands there twice."""
    return [run_id for run_id, _ in groupby(line.task_id.partition(".")[0] for line in works.ledger.lines())]


def skipped(works: Works) -> set[str]:
    return {slot.reason for slot in works.wheel.history("work") if slot.status == "skipped"}


@pytest.mark.parametrize("overlap", ["skip", pytest.param("buffer_one", marks=pytest.mark.long)])
def test_no_run_of_a_dag_begins_beside_another_and_what_was_not_fired_is_on_record(works: Works, overlap: str) -> None:
    works.beat()
    works.worker("threads")
    schedule(works, seconds=0.8, overlap=overlap)
    wait_for_runs(works, 3)

    assert len(stretches(works)) == len(set(runs_begun(works)))
    assert skipped(works) == {f"overlap:{overlap}"}


def test_a_run_is_cancelled_for_the_next_fire_of_its_entry(works: Works) -> None:
    works.beat()
    works.worker("threads")
    schedule(works, seconds=1.5, overlap="cancel_previous")
    wait_for_runs(works, 3)

    first, second = (works.wheel.dags.run(run_id) for run_id in runs_begun(works)[:2])
    assert [run.wait(TIMEOUT_S).state for run in (first, second)] == ["cancelled", "cancelled"]
    assert [node.state for node in first.nodes()][1] == "cancelled"


@pytest.mark.long
def test_a_run_outlives_the_leader_that_fired_it_and_the_next_one_counts_it(make_works: MakeWorks) -> None:
    works = make_works(tw_overlap_expires=10)
    beat = works.beat()
    works.worker("threads")
    schedule(works, seconds=7, overlap="skip")
    wait_for_runs(works, 1)

    os.killpg(beat.pid, signal.SIGKILL)
    works.beat()
    wait_for_runs(works, 2)

    assert stretches(works)[:2] == runs_begun(works)[:2]


@pytest.mark.long
def test_slots_that_were_missed_are_caught_up_one_run_after_the_other(make_works: MakeWorks) -> None:
    works = make_works()
    beat = works.beat()
    works.worker("threads")
    schedule(works, seconds=0.2, overlap="skip", misfire=Misfire.catch_up(rate=100), tolerance=1.0)
    wait_for_runs(works, 1)

    os.killpg(beat.pid, signal.SIGKILL)
    missed_s = works.wheel.history("work")[0].slot.timestamp() + 6
    client = works.wheel._parts.client
    wait_until(lambda: client.time()[0] >= missed_s, TIMEOUT_S, message="six slots to pass")
    works.beat()
    wait_for_runs(works, 8)

    assert len(stretches(works)) == len(set(runs_begun(works)))
