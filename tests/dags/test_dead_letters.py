"""A node that has failed for good is a dead letter, and is replayed in its run."""

from typing import Any

from celery import Celery

from celery_tw import DAG, TimeWheel
from tests.dags.conftest import Diary
from tests.stock_worker import stock_worker
from tests.waiting import wait_until

TIMEOUT_S = 30


def failing_dag(app: Celery, *, retries: int) -> DAG:
    with DAG("etl") as dag:
        bad = dag.node("bad", app.tasks["shop.work"].s("bad"), retries=retries)
        dag.node("after", app.tasks["shop.work"].s("after"), after=[bad])
    return dag


def test_the_last_attempt_is_one_letter_and_its_replay_lets_the_run_go_on(app: Celery, tw: TimeWheel, diary: Diary) -> None:
    diary.failing.add("bad")
    with stock_worker(app, pool="threads", concurrency=2):
        run = tw.dags.submit(failing_dag(app, retries=2))
        assert run.wait(TIMEOUT_S).state == "failed"
        (letter,) = tw.dlq.list().letters
        assert (letter.task, letter.task_id, letter.message) == ("shop.work", run.nodes()[0].task_id, "bad")

        diary.failing.clear()
        assert tw.dlq.requeue(ids=[letter.letter_id]).count == 1
        assert run.wait(TIMEOUT_S).state == "succeeded"
    assert (tw.dlq.count(), diary.ended) == (0, ["bad", "after"])


def test_a_letter_whose_node_was_run_again_by_hand_is_not_replayed(app: Celery, tw: TimeWheel, diary: Diary) -> None:
    diary.failing.add("bad")
    with stock_worker(app, pool="threads", concurrency=2):
        run = tw.dags.submit(failing_dag(app, retries=0))
        assert run.wait(TIMEOUT_S).state == "failed"
        diary.failing.clear()
        run.retry("bad")
        assert run.wait(TIMEOUT_S).state == "succeeded"

    replayed: Any = tw.dlq.requeue()
    assert (replayed.count, tw.dlq.count()) == (0, 1)
    assert "has been run again" in replayed.warnings[0]
    wait_until(lambda: diary.began.count("bad") == 2)
