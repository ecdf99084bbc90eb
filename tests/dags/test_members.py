"""Nodes of several tasks: their tasks show that they are alive, and the leader sends again what shows nothing for too long."""

import threading
from typing import Any

import pytest
from celery import Celery, chain, chord, group
from sqlalchemy import select

from celery_tw import DAG, TimeWheel
from celery_tw.integration.dags.dag_run import DagRun
from celery_tw.integration.dags.parts import parts_of
from celery_tw.stores.sql.tables import node
from tests.dags.conftest import Diary
from tests.dags.writing import TIMEOUT_S, dag_of, leading, states, work, working
from tests.waiting import wait_until


@pytest.fixture
def app(app: Celery) -> Celery:
    app.conf.tw_dag_canvas_timeout = 1
    return app


def signs_of_life(app: Celery, run: DagRun, number: int) -> int:
    """Return how often something of that node has been heard of."""
    beat = select(node.c.beat).where(node.c.run_id == run.id, node.c.number == number)
    return int(parts_of(app).database.look(lambda connection: connection.execute(beat).scalar_one()))


def submit(tw: TimeWheel, canvas: Any) -> DagRun:
    with DAG("canvas") as dag:
        dag.node("canvas", canvas)
    return tw.dags.submit(dag)


@pytest.mark.parametrize("kind", ["chain", "group", "body"])
def test_a_canvas_is_alive_as_long_as_one_of_its_tasks_runs(app: Celery, tw: TimeWheel, diary: Diary, kind: str) -> None:
    gate = diary.gates["slow"] = threading.Event()
    quick, slow = work(app, "quick", 1), app.tasks["shop.work"].si("slow", 1)
    canvas = {
        "chain": chain(quick, slow, app=app),
        "group": group([quick, slow], app=app),
        "body": chord([quick, quick.clone()], slow, app=app),
    }[kind]
    with leading(app), working(app):
        run = submit(tw, canvas)
        wait_until(lambda: "slow" in diary.began, TIMEOUT_S)
        before = signs_of_life(app, run, 0)
        wait_until(lambda: signs_of_life(app, run, 0) > before + 15, TIMEOUT_S, message="three seconds of heartbeats")
        gate.set()
        assert run.wait(TIMEOUT_S).state == "succeeded"
    assert diary.began.count("slow") == 1


def test_the_elements_of_a_list_show_that_their_node_is_alive(app: Celery, tw: TimeWheel, diary: Diary) -> None:
    gate = diary.gates["slow"] = threading.Event()
    with DAG("fan") as dag:
        dag.node("each", app.tasks["shop.work"].s(), for_each=dag.node("keys", work(app, "keys", ["quick", "slow"])))
    with leading(app), working(app):
        run = tw.dags.submit(dag)
        wait_until(lambda: "slow" in diary.began, TIMEOUT_S)
        before = signs_of_life(app, run, 1)
        wait_until(lambda: signs_of_life(app, run, 1) > before + 5, TIMEOUT_S, message="heartbeats")
        gate.set()
        assert run.wait(TIMEOUT_S).state == "succeeded"


def test_a_canvas_whose_message_is_lost_is_sent_again_after_its_time(app: Celery, tw: TimeWheel, diary: Diary) -> None:
    run = submit(tw, chain(work(app, "first", 1), app.tasks["shop.work"].si("second", 2), app=app))
    assert states(run) == {"canvas": "running"}
    with app.connection_for_write() as connection:
        assert connection.default_channel.queue_purge("celery") == 1
    with leading(app), working(app):
        assert run.wait(TIMEOUT_S).state == "succeeded"
    assert diary.ended == ["first", "second"]


def test_a_task_that_is_no_part_of_a_node_speaks_for_none(app: Celery, tw: TimeWheel, diary: Diary) -> None:
    with working(app):
        assert tw.dags.submit(dag_of(app, a="")).wait(TIMEOUT_S).state == "succeeded"
        assert work(app, "alone", 5).apply_async().get(timeout=TIMEOUT_S) == 5
    assert "members" not in vars(parts_of(app))
