"""Results that SQL does not keep: too large, or no JSON; and results that are gone when a child comes for them."""

from typing import Any

import pytest
from celery import Celery

from celery_tw import DAG, InvalidDag, TimeWheel
from celery_tw.integration.dags.results import LARGEST_RESULT
from tests.dags.conftest import Diary
from tests.dags.writing import TIMEOUT_S, dag_of, states, working
from tests.waiting import wait_until

PICKLE = {"task_serializer": "pickle", "result_serializer": "pickle", "accept_content": ["json", "pickle"]}


def test_a_result_that_is_no_json_is_passed_on_by_reference(app: Celery, tw: TimeWheel, diary: Diary) -> None:
    app.conf.update(PICKLE)

    @app.task(name="shop.complex", shared=False)
    def make_complex() -> complex:
        return 3 + 4j

    @app.task(name="shop.absolute", shared=False)
    def absolute(number: complex) -> float:
        return abs(number)

    with DAG("numbers") as dag:
        dag.node("absolute", absolute.s(), args_from=[dag.node("complex", make_complex.s())])
    with working(app):
        run = tw.dags.submit(dag)
        assert run.wait(TIMEOUT_S).state == "succeeded"
    assert (run.result("complex"), run.result("absolute")) == (3 + 4j, 5.0)


def test_a_result_that_nothing_can_keep_fails_its_node_and_says_so(app: Celery, tw: TimeWheel, diary: Diary) -> None:
    @app.task(name="shop.thing", shared=False)
    def make_thing() -> object:
        return object()

    with DAG("things") as dag:
        dag.node("user", app.tasks["shop.work"].s(), args_from=[dag.node("thing", make_thing.s())])
    with working(app):
        run = tw.dags.submit(dag)
        assert run.wait(TIMEOUT_S).state == "failed"
    assert states(run) == {"thing": "failed", "user": "blocked"}
    assert "not JSON serializable" in run.nodes()[0].error


def test_a_child_whose_parents_result_has_expired_is_lost_until_the_parent_runs_again(
    app: Celery, tw: TimeWheel, diary: Diary, redis_client: Any
) -> None:
    @app.task(name="shop.large", shared=False)
    def make_large() -> list[int]:
        return [7] * LARGEST_RESULT

    with DAG("large") as dag:
        made = dag.node("made", make_large.s())
        dag.node("sum", app.tasks["shop.total"].s(), args_from=[made])
    with working(app):
        run = tw.dags.submit(dag)
        run.pause()
        wait_until(lambda: states(run) == {"made": "succeeded", "sum": "ready"}, TIMEOUT_S)
        redis_client.delete(f"celery-task-meta-{run.nodes()[0].task_id}")
        run.resume()
        assert run.wait(TIMEOUT_S).state == "failed"
        assert run.nodes()[1].error.startswith("lost: the result of 'made'")
        run.retry("made")
        assert run.wait(TIMEOUT_S).state == "succeeded"
    assert run.result("sum") == 7 * LARGEST_RESULT


@pytest.mark.parametrize(("result", "says"), [(object(), "cannot be written as JSON"), ("x" * (LARGEST_RESULT + 1), "are stored")])
def test_a_result_given_by_hand_is_json_and_small(app: Celery, tw: TimeWheel, diary: Diary, result: Any, says: str) -> None:
    run = tw.dags.submit(dag_of(app, a=""))
    with pytest.raises(InvalidDag, match=says):
        run.mark_done("a", result=result)
    assert states(run) == {"a": "queued"}
