"""`tw dag` and `tw db`: what they show of runs, and what they do to them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from celery import Celery

from celery_tw import DAG, TimeWheel
from celery_tw.core.dag_state import NodeState
from celery_tw.core.node_id import NodeId
from celery_tw.integration.dags.dag_run import DagRun
from celery_tw.integration.dags.parts import parts_of
from celery_tw.stores.sql.progress import Ended
from tests.cli.conftest import CommandLine


@pytest.fixture
def shop(shop: Celery, tmp_path: Path) -> Iterator[Celery]:
    shop.conf.tw_database_url = f"sqlite:///{tmp_path / 'dags.db'}"
    yield shop
    parts_of(shop).close()


@pytest.fixture
def run(shop: Celery) -> DagRun:
    """A run whose first node has failed."""
    with DAG("etl") as dag:
        clean = dag.node('clean "all"', shop.tasks["shop.report"].s())
        dag.node("load", shop.tasks["shop.report"].s(), after=[clean])
    run = TimeWheel(shop).dags.submit(dag, idempotency_key="monday")
    ended = Ended(NodeState.FAILED, error="ValueError('no')")
    parts_of(shop).progress.end(NodeId(run.id, 0, 1), ended, now_ms=5)
    return run


def test_runs_are_listed(cli: CommandLine, run: DagRun) -> None:
    assert run.id in cli.done("dag", "list")
    (listed,) = cli.json("dag", "list", "--name", "etl", "--state", "failed")["runs"]
    assert (listed["id"], listed["counts"], listed["idempotency_key"]) == (run.id, {"blocked": 1, "failed": 1}, "monday")
    assert cli.done("dag", "list", "--state", "paused") == "no DAG has been run\n"


def test_a_run_is_shown_as_a_tree_with_what_went_wrong(cli: CommandLine, run: DagRun) -> None:
    shown = cli.done("dag", "show", run.id)
    assert '✘ clean "all"  failed\n  ■ load  blocked  ← clean "all"\n' in shown
    assert "clean \"all\" (attempt 1): ValueError('no')" in shown
    assert cli.done("dag", "show", run.id, "--watch").endswith(shown)


def test_a_run_is_drawn_for_mermaid_and_graphviz(cli: CommandLine, run: DagRun) -> None:
    mermaid = cli.done("dag", "show", run.id, "--mermaid")
    assert mermaid.startswith('flowchart LR\n    n0["clean #34;all#34;"]:::failed\n    n1["load"]:::blocked\n    n0 --> n1\n')
    dot = cli.done("dag", "show", run.id, "--dot")
    assert dot.startswith('digraph "etl" {')
    assert '"clean \\"all\\"" -> "load";' in dot


def test_a_run_is_shown_as_json(cli: CommandLine, run: DagRun) -> None:
    shown = cli.json("dag", "show", run.id)
    assert shown["run"]["state"] == "failed"
    assert [(node["key"], node["state"], node["after"]) for node in shown["nodes"]] == [
        ('clean "all"', "failed", []),
        ("load", "blocked", ['clean "all"']),
    ]


def test_a_run_is_repaired_paused_resumed_and_cancelled(cli: CommandLine, run: DagRun) -> None:
    assert cli.done("dag", "retry", run.id) == f"etl {run.id}: running (1 pending, 1 queued)\n"
    assert "paused" in cli.done("dag", "pause", run.id)
    assert "running" in cli.done("dag", "resume", run.id)
    assert cli.done("dag", "done", run.id, 'clean "all"', "--result", "[1]").endswith("running (1 queued, 1 succeeded)\n")
    assert run.result('clean "all"') == [1]
    asked = cli.run("dag", "cancel", run.id, typed="n\n")
    assert (asked.exit_code, "of which 1 nodes have not ended" in asked.output) == (1, True)
    assert run.status().state == "running"
    assert "cancelled" in cli.done("dag", "cancel", run.id, "--yes")
    assert run.status().state == "cancelled"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("show", "nothing"), "no DAG run 'nothing'"),
        (("show", "\ud800"), "no DAG run"),
        (("retry", "{}", "x"), "no node 'x'"),
        (("retry", "{}", "\ud800"), "no node"),
        (("pause", "{}"), "has ended (failed) and cannot be paused"),
        (("done", "{}", "load", "--result", "{"), "--result is no JSON"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(cli: CommandLine, run: DagRun, arguments: tuple[str, ...], says: str) -> None:
    said = cli.refused("dag", *(run.id if word == "{}" else word for word in arguments))
    assert says in said
    assert said.count("\n") == 1


def test_without_a_database_the_setting_is_named(make_app: Callable[..., Celery]) -> None:
    assert "tw_database_url" in CommandLine(make_app()).refused("dag", "list")


def test_a_database_that_does_not_answer_is_exit_code_69(make_app: Callable[..., Celery]) -> None:
    cli = CommandLine(make_app(tw_database_url="postgresql+psycopg://postgres:secret@127.0.0.1:1/x"))
    said = cli.refused("dag", "list", code=69)
    assert "does not answer" in said
    assert "secret" not in said


def test_the_tables_are_made_ahead_of_time(cli: CommandLine, shop: Celery) -> None:
    assert cli.done("db", "upgrade") == "the tables of DAGs are up to date\n"
    assert cli.done("db", "upgrade") == "the tables of DAGs are up to date\n"
    assert cli.done("dag", "list") == "no DAG has been run\n"
