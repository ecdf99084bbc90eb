"""Nodes whose tasks have a retry policy, or put themselves off: one attempt of the node each, however often the body begins."""

from typing import Any

from celery import Celery

import celery_tw
from celery_tw import DAG, Retry, TimeWheel
from tests.dags.conftest import Diary
from tests.dags.test_workflows import TIMEOUT_S, work, working


def test_a_node_that_is_put_off_and_retried_is_one_attempt(app: Celery, tw: TimeWheel, diary: Diary) -> None:
    ran: list[int] = []

    @app.task(name="shop.moody", base=celery_tw.Task, bind=True, shared=False, retry=Retry(max=1, base=0))
    def moody(self: Any) -> str:
        ran.append(self.request.retries)
        if len(ran) in (1, 2):
            self.snooze(0)
        if len(ran) == 3:
            raise OSError("down")
        return "done"

    with DAG("moody") as dag:
        dag.node("after", work(app, "after"), after=[dag.node("moody", moody.s())])
    with working(app):
        run = tw.dags.submit(dag)
        assert run.wait(TIMEOUT_S).state == "succeeded"

    assert ran == [0, 0, 0, 1]
    assert {node.key: node.attempt for node in run.nodes()} == {"moody": 1, "after": 1}
    assert run.result("moody") == "done"


def test_past_its_policy_the_node_fails_and_its_own_retries_begin(app: Celery, tw: TimeWheel, diary: Diary) -> None:
    ran: list[int] = []

    @app.task(name="shop.flaky", base=celery_tw.Task, bind=True, shared=False, retry=Retry(max=1, base=0))
    def flaky(self: Any) -> str:
        ran.append(self.request.retries)
        if len(ran) < 4:
            raise OSError("down")
        return "done"

    with DAG("flaky") as dag:
        dag.node("flaky", flaky.s(), retries=1)
    with working(app):
        run = tw.dags.submit(dag)
        assert run.wait(TIMEOUT_S).state == "succeeded"

    assert ran == [0, 1, 0, 1]
    assert [node.attempt for node in run.nodes()] == [2]
