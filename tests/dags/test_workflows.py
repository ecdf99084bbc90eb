"""Workflows in a worker of threads: what runs, in which order, and with what."""

import threading
from typing import Any

import pytest
from celery import Celery, chain, chord, group
from celery.exceptions import Ignore, Reject

import celery_tw
from celery_tw import DAG, DependencyCycle, InvalidDag, TimeWheel, UnknownDagRun, UnknownNode, events, every
from celery_tw.errors import ImproperlyConfigured
from celery_tw.integration.dags.results import LARGEST_RESULT, ResultGone
from tests.dags.conftest import Diary, MakeApp
from tests.dags.writing import TIMEOUT_S, dag_of, states, work, working
from tests.stock_worker import runs_tasks_with_an_eta
from tests.waiting import wait_until


def test_a_diamond_runs_each_node_once_and_after_its_parents(app: Celery, tw: TimeWheel, diary: Diary) -> None:
    dag = dag_of(app, top="", left="top", right="top", bottom="left right")
    with working(app):
        run = tw.dags.submit(dag)
        view = run.wait(TIMEOUT_S)
    assert (view.state, view.counts) == ("succeeded", {"succeeded": 4})
    assert sorted(diary.began) == ["bottom", "left", "right", "top"]
    assert diary.began[0] == "top"
    assert diary.began[-1] == "bottom"
    assert run.result("left") == "LEFT"


def test_a_branch_does_not_wait_for_another(app: Celery, tw: TimeWheel, diary: Diary) -> None:
    diary.gates["slow"] = threading.Event()
    with working(app):
        run = tw.dags.submit(dag_of(app, slow="", quick="", after_quick="quick", both="slow quick"))
        wait_until(lambda: "after_quick" in diary.ended, TIMEOUT_S)
        assert states(run)["both"] == "pending"
        diary.gates["slow"].set()
        assert run.wait(TIMEOUT_S).state == "succeeded"


def test_a_hundred_parents_release_their_child_once(app: Celery, tw: TimeWheel, diary: Diary) -> None:
    parents = {f"p{number}": "" for number in range(100)}
    with working(app):
        run = tw.dags.submit(dag_of(app, **parents, join=" ".join(parents), end="join"))
        assert run.wait(60).state == "succeeded"
    assert diary.began.count("join") == 1
    assert diary.began[-2:] == ["join", "end"]


def test_results_of_parents_come_first_in_the_order_that_is_asked_for(app: Celery, tw: TimeWheel, diary: Diary) -> None:
    with DAG("sums") as dag:
        one = dag.node("one", work(app, "one", 1))
        two = dag.node("two", work(app, "two", [20]))
        dag.node("three", app.tasks["shop.total"].s(300), args_from=[two, one])
    with working(app):
        run = tw.dags.submit(dag)
        run.wait(TIMEOUT_S)
    assert run.result("three") == 321


def test_a_large_result_is_passed_on_by_reference(app: Celery, tw: TimeWheel, diary: Diary) -> None:
    large = [7] * LARGEST_RESULT

    @app.task(name="shop.large", shared=False)
    def make_large() -> list[int]:
        return large

    with DAG("large") as dag:
        made = dag.node("made", make_large.s())
        dag.node("sum", app.tasks["shop.total"].s(), args_from=[made])
    with working(app):
        run = tw.dags.submit(dag)
        assert run.wait(TIMEOUT_S).state == "succeeded"
    assert run.result("sum") == sum(large)


def test_a_child_whose_parents_result_is_gone_fails_and_says_so(app: Celery, tw: TimeWheel, diary: Diary) -> None:
    @app.task(name="shop.large", shared=False, ignore_result=True)
    def make_large() -> str:
        return "x" * (LARGEST_RESULT + 1)

    with DAG("large") as dag:
        made = dag.node("made", make_large.s())
        dag.node("child", app.tasks["shop.total"].s(), args_from=[made])
    with working(app):
        run = tw.dags.submit(dag)
        assert run.wait(TIMEOUT_S).state == "failed"
    assert states(run) == {"made": "succeeded", "child": "failed"}
    assert run.nodes()[1].error.startswith("lost: the result of 'made'")
    with pytest.raises(ResultGone):
        run.result("made")


@pytest.mark.parametrize("kind", ["chain", "group", "chord"])
def test_a_node_can_be_any_canvas(app: Celery, tw: TimeWheel, diary: Diary, kind: str) -> None:
    add, total = app.tasks["shop.add"], app.tasks["shop.total"]
    canvas = {
        "chain": chain(add.s(1), add.s(10), app=app),
        "group": group([add.s(1), add.s(10)], app=app),
        "chord": chord([add.s(1), add.s(10)], total.s(), app=app),
    }[kind]
    with DAG("canvas") as dag:
        first = dag.node("first", add.s(100))
        middle = dag.node("middle", canvas, args_from=[first])
        dag.node("last", work(app, "last", 1), after=[middle])
    with working(app):
        run = tw.dags.submit(dag)
        assert run.wait(TIMEOUT_S).state == "succeeded"
    assert run.result("middle") == {"chain": 111, "group": [101, 110], "chord": 211}[kind]
    assert diary.began == ["last"]


@pytest.mark.parametrize("kind", ["chain", "group", "chord"])
def test_a_canvas_that_fails_fails_its_node(app: Celery, tw: TimeWheel, diary: Diary, kind: str) -> None:
    diary.failing.add("bad")
    add, bad = app.tasks["shop.add"], app.tasks["shop.work"].si("bad")
    canvas = {
        "chain": chain(add.s(1), bad, add.si(1), app=app),
        "group": group([add.s(1), bad], app=app),
        "chord": chord([add.s(1), bad], app.tasks["shop.total"].s(), app=app),
    }[kind]
    with DAG("canvas") as dag:
        dag.node("after", work(app, "after"), after=[dag.node("canvas", canvas)])
    with working(app):
        run = tw.dags.submit(dag)
        assert run.wait(TIMEOUT_S).state == "failed"
    assert states(run) == {"canvas": "failed", "after": "blocked"}


def test_a_node_fans_out_over_the_list_of_its_parent(app: Celery, tw: TimeWheel, diary: Diary) -> None:
    with DAG("fan") as dag:
        numbers = dag.node("numbers", work(app, "numbers", [1, 2, 3]))
        ten = dag.node("ten", work(app, "ten", 10))
        each = dag.node("each", app.tasks["shop.add"].s(100), for_each=numbers, args_from=[ten])
        dag.node("sum", app.tasks["shop.total"].s(), args_from=[each])
    with working(app):
        run = tw.dags.submit(dag)
        assert run.wait(TIMEOUT_S).state == "succeeded"
    assert run.result("each") == [111, 112, 113]
    assert run.result("sum") == 336


@pytest.mark.parametrize(("value", "state", "result"), [([], "succeeded", []), ("abc", "failed", None)])
def test_a_node_that_fans_out_over_nothing_ends_and_over_no_list_fails(
    app: Celery, tw: TimeWheel, diary: Diary, value: Any, state: str, result: Any
) -> None:
    with DAG("fan") as dag:
        dag.node("each", app.tasks["shop.add"].s(), for_each=dag.node("values", work(app, "values", value)))
    with working(app):
        run = tw.dags.submit(dag)
        assert run.wait(TIMEOUT_S).state == state
    assert run.result("each") == result


def test_a_failed_node_is_sent_again_before_its_children_hear_of_it(app: Celery, tw: TimeWheel, diary: Diary) -> None:
    tries = []

    @app.task(name="shop.third", shared=False)
    def third_time() -> int:
        tries.append(1)
        if len(tries) < 3:
            raise ValueError("not yet")
        return len(tries)

    with DAG("again") as dag:
        dag.node("after", work(app, "after"), after=[dag.node("third", third_time.s(), retries=2)])
    with working(app):
        run = tw.dags.submit(dag)
        assert run.wait(TIMEOUT_S).state == "succeeded"
    assert run.result("third") == 3
    assert run.nodes()[0].attempt == 3


@runs_tasks_with_an_eta
def test_celerys_own_retries_come_first_and_count_as_one_attempt(app: Celery, tw: TimeWheel, diary: Diary) -> None:
    @app.task(name="shop.stubborn", bind=True, shared=False, max_retries=3)
    def stubborn(self: Any) -> int:
        if self.request.retries < 2:
            raise self.retry(countdown=0.1)
        return self.request.retries

    with DAG("again") as dag:
        dag.node("stubborn", stubborn.s())
    with working(app):
        run = tw.dags.submit(dag)
        assert run.wait(TIMEOUT_S).state == "succeeded"
    assert run.result("stubborn") == 2
    assert run.nodes()[0].attempt == 1


@pytest.mark.parametrize(
    ("on_failure", "expected", "state"),
    [
        ("block", {"bad": "failed", "next": "blocked", "last": "blocked", "always": "succeeded"}, "failed"),
        ("skip", {"bad": "failed", "next": "skipped", "last": "skipped", "always": "succeeded"}, "succeeded"),
        ("run_anyway", {"bad": "failed", "next": "succeeded", "last": "succeeded", "always": "succeeded"}, "succeeded"),
    ],
)
def test_a_failure_does_to_what_comes_after_it_what_its_policy_says(
    app: Celery, tw: TimeWheel, diary: Diary, on_failure: str, expected: dict[str, str], state: str
) -> None:
    diary.failing.add("bad")
    with DAG("policy") as dag:
        bad = dag.node("bad", work(app, "bad"), on_failure=on_failure)
        dag.node("last", work(app, "last"), after=[dag.node("next", work(app, "next"), after=[bad])])
        dag.node("always", work(app, "always"), after=[bad], trigger="all_done")
    with working(app):
        run = tw.dags.submit(dag)
        assert run.wait(TIMEOUT_S).state == state
    assert states(run) == expected
    assert "ValueError('bad')" in run.nodes()[0].error


def test_a_run_is_repaired_by_a_retry_or_by_hand(app: Celery, tw: TimeWheel, diary: Diary) -> None:
    diary.failing.update({"a", "b"})
    with DAG("repair") as dag:
        a, b = (dag.node(key, work(app, key, key)) for key in "ab")
        dag.node("end", work(app, "end"), after=[a, b])
    with working(app):
        run = tw.dags.submit(dag)
        assert run.wait(TIMEOUT_S).state == "failed"
        diary.failing.clear()
        assert run.retry("a").state == "running"
        assert run.wait(TIMEOUT_S).state == "failed"  # b still blocks the end
        assert run.mark_done("b", result="by hand").state == "running"
        assert run.wait(TIMEOUT_S).state == "succeeded"
    assert run.result("b") == "by hand"
    assert diary.began.count("b") == 1


def test_a_paused_run_waits_and_does_not_care_for_expired_results(app: Celery, tw: TimeWheel, diary: Diary, redis_client: Any) -> None:
    diary.gates["a"] = threading.Event()
    with DAG("pause") as dag:
        a = dag.node("a", work(app, "a", 5))
        dag.node("b", app.tasks["shop.add"].s(1), args_from=[a])
    with working(app):
        run = tw.dags.submit(dag)
        wait_until(lambda: states(run)["a"] == "running", TIMEOUT_S)
        assert run.pause().state == "paused"
        diary.gates["a"].set()
        wait_until(lambda: states(run) == {"a": "succeeded", "b": "ready"}, TIMEOUT_S)
        for key in redis_client.keys("celery-task-meta-*"):
            redis_client.delete(key)
        run.resume()
        assert run.wait(TIMEOUT_S).state == "succeeded"
    assert run.result("b") == 6


def test_a_cancelled_run_begins_nothing_more_and_stops_what_can_stop(app: Celery, tw: TimeWheel, diary: Diary) -> None:
    began = threading.Event()

    @app.task(name="shop.long", base=celery_tw.Task, bind=True, shared=False)
    def long(self: Any) -> None:
        began.set()
        wait_until(lambda: states(run)["b"] == "cancelled", TIMEOUT_S)

    with DAG("cancel") as dag:
        dag.node("c", work(app, "c"), after=[dag.node("b", work(app, "b"), after=[dag.node("a", long.s())])])
    with working(app):
        run = tw.dags.submit(dag)
        assert began.wait(TIMEOUT_S)
        assert run.cancel().state == "cancelled"
        wait_until(lambda: states(run)["a"] == "succeeded", TIMEOUT_S)
    assert states(run) == {"a": "succeeded", "b": "cancelled", "c": "cancelled"}
    assert diary.began == []


def test_a_guarded_task_can_be_a_node(app: Celery, tw: TimeWheel, diary: Diary) -> None:
    @app.task(name="shop.guarded", base=celery_tw.Task, shared=False, ignore_result=True)
    def guarded(number: int) -> int:
        return number + 1

    with DAG("guarded") as dag:
        nodes = [dag.node(f"g{number}", guarded.s(number)) for number in range(3)]
        dag.node("sum", app.tasks["shop.add"].s(), args_from=nodes)
    with working(app):
        run = tw.dags.submit(dag)
        assert run.wait(TIMEOUT_S).state == "succeeded"
        assert run.result("sum") == 6


def test_a_task_that_ignores_itself_is_skipped_and_one_that_rejects_itself_failed(app: Celery, tw: TimeWheel, diary: Diary) -> None:
    @app.task(name="shop.ignoring", shared=False)
    def ignoring() -> None:
        raise Ignore("nothing to do")

    @app.task(name="shop.rejecting", shared=False)
    def rejecting() -> None:
        raise Reject("no", requeue=False)

    with DAG("odd") as dag:
        dag.node("ignoring", ignoring.s())
        dag.node("rejecting", rejecting.s())
    with working(app):
        run = tw.dags.submit(dag)
        assert run.wait(TIMEOUT_S).state == "failed"
    assert states(run) == {"ignoring": "skipped", "rejecting": "failed"}


def test_a_copy_that_comes_to_the_process_that_runs_its_node_neither_runs_nor_ends_it(
    app: Celery, tw: TimeWheel, diary: Diary, caplog: pytest.LogCaptureFixture
) -> None:
    diary.gates["a"] = threading.Event()
    caplog.set_level("INFO", "celery_tw")
    with working(app):
        run = tw.dags.submit(dag_of(app, a="", b="a"))
        wait_until(lambda: diary.began == ["a"], TIMEOUT_S)
        work(app, "a").apply_async(task_id=run.nodes()[0].task_id)
        wait_until(lambda: "is not run: another copy of it is" in caplog.text or len(diary.began) > 1, TIMEOUT_S)
        work(app, "other").apply_async().get(timeout=TIMEOUT_S)
        diary.gates["a"].set()
        assert run.wait(TIMEOUT_S).state == "succeeded"
    assert diary.began == ["a", "other", "b"]


def test_a_node_that_replaces_itself_fails_and_says_what_to_do(app: Celery, tw: TimeWheel, diary: Diary) -> None:
    @app.task(name="shop.replacing", bind=True, shared=False)
    def replacing(self: Any) -> None:
        raise self.replace(app.tasks["shop.add"].si(1))

    with DAG("odd") as dag:
        dag.node("replacing", replacing.s())
    with working(app):
        run = tw.dags.submit(dag)
        assert run.wait(TIMEOUT_S).state == "failed"
    assert "make the canvas the node" in run.nodes()[0].error


def test_a_revoked_node_has_failed(app: Celery, tw: TimeWheel, diary: Diary) -> None:
    run = tw.dags.submit(dag_of(app, a="", b="a"))
    with DAG("expires") as dag:
        dag.node("late", work(app, "late").set(expires=-1), retries=5)
    expired = tw.dags.submit(dag)
    with working(app):
        assert expired.wait(TIMEOUT_S).state == "failed"
        assert expired.nodes()[0].error == "expired"
        assert run.wait(TIMEOUT_S).state == "succeeded"


def test_one_idempotency_key_is_one_run(app: Celery, tw: TimeWheel, diary: Diary) -> None:
    dag = dag_of(app, a="", b="a")
    first, second, other = (tw.dags.submit(dag, idempotency_key=key) for key in ("monday", "monday", "tuesday"))
    assert first.id == second.id != other.id
    with working(app):
        assert first.wait(TIMEOUT_S).state == other.wait(TIMEOUT_S).state == "succeeded"
    assert sorted(diary.began) == ["a", "a", "b", "b"]
    assert {view.idempotency_key for view in tw.dags.list(name="etl")} == {"monday", "tuesday"}


def test_a_dag_is_scheduled_like_any_task(app: Celery, tw: TimeWheel, diary: Diary) -> None:
    dag = dag_of(app, a="", b="a")
    entry = tw.schedule("nightly", dag, every(hours=1))
    assert entry.task == "celery_tw.dags.submit"
    with working(app):
        run_id = tw.trigger("nightly").get(timeout=TIMEOUT_S)
        run = tw.dags.run(run_id)
        assert run.wait(TIMEOUT_S).state == "succeeded"
    assert diary.ended == ["a", "b"]


def test_a_submit_whose_message_comes_twice_is_one_run(app: Celery, tw: TimeWheel, diary: Diary) -> None:
    signature = tw.dags.signature(dag_of(app, a=""))
    with working(app):
        first = signature.apply_async(task_id="fire").get(timeout=TIMEOUT_S)
        wait_until(lambda: tw.dags.run(first).status().state == "succeeded", TIMEOUT_S)
        signature.apply_async(task_id="fire")
        assert signature.apply_async(task_id="another").get(timeout=TIMEOUT_S) != first
        assert len(tw.dags.list()) == 2


def test_events_tell_how_a_run_goes(app: Celery, tw: TimeWheel, diary: Diary) -> None:
    heard: list[Any] = []

    def hear(signal: Any, **facts: Any) -> None:
        heard.append((signal.name, facts.get("node"), facts.get("state")))

    signals = (events.dag_run_started, events.dag_node_ended, events.dag_run_ended)
    for signal in signals:
        signal.connect(hear)
    try:
        with working(app):
            tw.dags.submit(dag_of(app, a="", b="a")).wait(TIMEOUT_S)
            wait_until(lambda: len(heard) == 4, TIMEOUT_S)
    finally:
        for signal in signals:
            signal.disconnect(hear)
    assert heard == [
        ("dag_run_started", None, None),
        ("dag_node_ended", "a", "succeeded"),
        ("dag_node_ended", "b", "succeeded"),
        ("dag_run_ended", None, "succeeded"),
    ]


# What is refused


def test_a_cycle_is_refused_before_anything_is_written(app: Celery, tw: TimeWheel, diary: Diary) -> None:
    dag = DAG("round")
    for key, after in (("a", "c"), ("b", "a"), ("c", "b")):
        dag.node(key, work(app, key), after=[after])
    with pytest.raises(DependencyCycle, match="→"):
        tw.dags.submit(dag)
    assert tw.dags.list() == []
    with pytest.raises(DependencyCycle), DAG("self") as dag:
        dag.node("a", work(app, "a"), after=["a"])


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda dag, task: dag.node("a", task), "signature or canvas, with its arguments"),
        (lambda dag, task: [dag.node("a", task.s()), dag.node("a", task.s())], "two nodes 'a'"),
        (lambda dag, task: dag.node("a", task.s(), after=["x"]), "after 'x', which is no node"),
        (lambda dag, task: dag.node("a", task.s(), after="x"), "a list of nodes"),
        (lambda dag, task: dag.node("a", task.s(), after=[7]), "not int"),
        (lambda dag, task: dag.node("a", task.s(), trigger="sometimes"), "trigger is one of 'all_success'"),
        (lambda dag, task: dag.node("a", task.s(), on_failure="weep"), "on_failure is one of 'block'"),
        (lambda dag, task: dag.node("a", task.s(), retries=-1), "retries is a whole number"),
        (lambda dag, task: dag.node("a", task.s(), retries=1, retry_delay=-1), "retry_delay is a number of seconds"),
        (lambda dag, task: dag.node("a", task.s(), retry_delay=5), "has a retry_delay and no retries"),
        (lambda dag, task: dag.node("b", task.si(), args_from=[dag.node("a", task.s())]), "its signature is immutable"),
        (lambda dag, task: dag.node("a", task.s(object())), "cannot be written as JSON"),
        (lambda dag, task: dag.node("a", task.s("x" * 300_000)), "pass a reference instead"),
        (lambda dag, task: dag.node("a", task.app.signature("shop.unheard_of")), "'shop.unheard_of', which is not registered"),
        (lambda dag, task: dag.node("a", group([task.s(), task.app.signature("shop.x")])), "'shop.x', which is not registered"),
        (lambda dag, task: dag.node("", task.s()), "a node's key is text"),
        (lambda dag, task: None, "at least one node"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_sentence(app: Celery, tw: TimeWheel, diary: Diary, write: Any, says: str) -> None:
    def write_and_submit(dag: DAG) -> None:
        write(dag, app.tasks["shop.work"])
        tw.dags.submit(dag)

    with pytest.raises(InvalidDag, match=says):
        write_and_submit(DAG("wrong"))
    assert tw.dags.list() == []


def test_a_dag_sends_only_what_is_allowed(make_app: MakeApp, database_url: str) -> None:
    app = make_app(tw_database_url=database_url, tw_allowed_tasks=["shop.reports.*"])
    tw = TimeWheel(app)

    @app.task(name="shop.work", shared=False)
    def work() -> None:
        raise AssertionError("it may not be sent")

    with DAG("wrong") as dag:
        dag.node("a", work.s())
    with pytest.raises(InvalidDag, match="not among tw_allowed_tasks"):
        tw.dags.submit(dag)


def test_a_dag_needs_a_database_and_the_error_names_the_setting(make_app: MakeApp) -> None:
    tw = TimeWheel(make_app())
    with pytest.raises(ImproperlyConfigured, match="tw_database_url"):
        tw.dags.list()


@pytest.mark.parametrize("url", ["sqlite://", "oracle://host/x", "sqlite:///:memory:"])
def test_a_database_that_cannot_serve_is_refused_by_name(make_app: MakeApp, url: str) -> None:
    tw = TimeWheel(make_app(tw_database_url=url))
    with pytest.raises(ImproperlyConfigured, match="tw_database_url"):
        tw.dags.list()


def test_what_is_not_there_is_said_not_to_be(app: Celery, tw: TimeWheel, diary: Diary) -> None:
    with pytest.raises(UnknownDagRun):
        tw.dags.run("nothing")
    run = tw.dags.submit(dag_of(app, a=""))
    with pytest.raises(UnknownNode):
        run.result("b")
    with pytest.raises(InvalidDag, match="a run is one of"):
        tw.dags.list(state="fine")
    with pytest.raises(InvalidDag, match="an idempotency key is text"):
        tw.dags.submit(dag_of(app, a=""), idempotency_key="")
    with pytest.raises(TimeoutError, match="still running"):
        run.wait(0)
