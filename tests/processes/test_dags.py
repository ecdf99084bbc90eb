"""Workflows with real workers that are killed: what ran is held against the graph."""

import os
import random
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from celery_tw import DAG
from celery_tw.embedded import EmbeddedServer
from celery_tw.integration.dags.dag_run import DagRun
from celery_tw.integration.dags.parts import parts_of
from celery_tw.testing.rabbit_server import RabbitServer
from tests.databases import KINDS
from tests.processes.processes import Processes
from tests.processes.works import TIMEOUT_S, Works
from tests.waiting import wait_until

pytestmark = [pytest.mark.processes]

GRAPHS = int(os.environ.get("TW_DAG_GRAPHS", "20"))
"""How many random graphs the long test runs; the figures in the documentation are from 200."""


def random_graph(randomness: random.Random, size: int) -> dict[str, list[str]]:
    keys = [f"n{number}" for number in range(size)]
    return {key: randomness.sample(keys[:at], min(at, randomness.choice([0, 1, 1, 2, 2, 3]))) for at, key in enumerate(keys)}


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_diamond_and_a_wide_join_run_in_processes_and_in_threads(make_works: Callable[..., Works], pool: str) -> None:
    works = make_works()
    works.worker(pool)
    diamond = {"top": [], "left": ["top"], "right": ["top"], "bottom": ["left", "right"]}
    wide = {**{f"p{number}": [] for number in range(30)}, "join": [f"p{number}" for number in range(30)]}
    for graph in (diamond, wide):
        run = works.submit(graph)
        assert run.wait(TIMEOUT_S).state == "succeeded"
        works.check(run, graph)


@pytest.mark.parametrize("task", ["shop.step", "shop.guarded_step"])
def test_a_node_whose_worker_is_killed_runs_again_and_the_run_goes_on(make_works: Callable[..., Works], task: str) -> None:
    works = make_works()
    works.beat()
    worker = works.worker()
    graph = {"a": [], "b": ["a"]}
    run = works.submit(graph, task=task, seconds=lambda: 1.5)
    wait_until(lambda: works.moments(run, "begins"), TIMEOUT_S)

    os.killpg(worker.pid, signal.SIGKILL)
    works.worker()

    assert run.wait(TIMEOUT_S).state == "succeeded"
    works.check(run, graph, kills=1)
    assert len(works.moments(run, "begins")["a"]) == 2


def test_a_node_whose_process_is_killed_has_failed_and_its_worker_says_so(make_works: Callable[..., Works]) -> None:
    works = make_works()
    worker = works.worker()
    with DAG("graph") as dag:
        dag.node("b", works.app.tasks["shop.step"].s("b"), after=[dag.node("a", works.app.tasks["shop.step"].s("a", 60))])
    run = works.wheel.dags.submit(dag)
    wait_until(lambda: works.moments(run, "begins"), TIMEOUT_S)
    children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
    for child in children:
        os.kill(int(child), signal.SIGKILL)
    view = run.wait(TIMEOUT_S)
    assert (view.state, view.counts) == ("failed", {"failed": 1, "blocked": 1})
    assert "WorkerLostError" in run.nodes()[0].error


def test_a_node_that_was_released_and_never_sent_is_sent_by_the_leader(make_works: Callable[..., Works]) -> None:
    works = make_works()
    graph = {"a": [], "b": ["a"]}
    run = works.submit(graph)
    with works.app.connection_for_write() as connection:
        connection.default_channel.queue_purge("celery")
    works.beat()
    works.worker("solo")
    assert run.wait(TIMEOUT_S).state == "succeeded"
    works.check(run, graph)


def test_a_database_that_is_away_when_a_node_ends_costs_time_and_nothing_else(make_works: Callable[..., Works]) -> None:
    works = make_works("postgres")
    works.worker("threads")
    graph = {"a": [], "b": ["a"], "c": ["b"]}
    run = works.submit(graph, seconds=lambda: 1.0)
    wait_until(lambda: works.moments(run, "begins"), TIMEOUT_S)
    parts_of(works.app).close()

    with _shut(works.conf["tw_database_url"]):
        wait_until(lambda: works.moments(run, "ends"), TIMEOUT_S)
        wait_until(lambda: "does not answer" in works.processes.logs(), TIMEOUT_S, message="the worker to notice")

    assert run.wait(TIMEOUT_S).state == "succeeded"
    works.check(run, graph)


class _shut:  # noqa: N801 - it reads as a verb
    """A PostgreSQL database that takes no connections, and has ended all there were."""

    def __init__(self, url: str) -> None:
        from sqlalchemy import create_engine, make_url  # noqa: PLC0415 - beside its only use

        self.name = make_url(url).database
        self.engine = create_engine(make_url(url).set(database="postgres"), isolation_level="AUTOCOMMIT")

    def __enter__(self) -> None:
        self._do(f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS false")
        self._do(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self.name}'")

    def __exit__(self, *exception: object) -> None:
        self._do(f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS true")
        self.engine.dispose()

    def _do(self, statement: str) -> None:
        from sqlalchemy import text  # noqa: PLC0415 - beside its only use

        with self.engine.connect() as connection:
            connection.execute(text(statement))


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
def test_random_graphs_survive_kills_of_workers_and_of_the_leader_and_of_redis(
    make_works: Callable[..., Works], server: EmbeddedServer, kind: str
) -> None:
    survive_kills(make_works(kind), servers=[server], what=kind)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_random_graphs_survive_kills_with_rabbitmq_as_the_broker(
    make_works: Callable[..., Works], processes: Processes, server: EmbeddedServer, rabbit_server: RabbitServer
) -> None:
    works = make_works(broker_url=rabbit_server.url, tw_redis_url=processes.url, broker_heartbeat=10)
    survive_kills(works, servers=[server, rabbit_server], what="sqlite, RabbitMQ")


def survive_kills(works: Works, *, servers: Sequence[EmbeddedServer | RabbitServer], what: str) -> None:
    """Run several graphs at a time, a kill every second or so; each node ends once, after its parents, and no run is stuck."""
    randomness = random.Random(GRAPHS)
    beats = [works.beat(), works.beat()]
    workers = [works.worker(), works.worker()]
    left, kills, done = GRAPHS, 0, 0
    while left > 0:
        batch = min(left, 10)
        graphs = [random_graph(randomness, randomness.randrange(5, 30)) for _ in range(batch)]
        runs = [works.submit(graph, seconds=lambda: randomness.random() * 0.1) for graph in graphs]
        killed = 0
        while killed < 3 and not all_ended(runs):
            wait_for_more(works, runs)
            killed += 1
            whom = randomness.random()
            if whom < 0.2:
                os.killpg(beats.pop(0).pid, signal.SIGKILL)
                beats.append(works.beat())
            elif whom < 0.35:
                kill_and_restart(randomness.choice(servers))
            else:
                os.killpg(workers.pop(0).pid, signal.SIGKILL)
                workers.append(works.worker())
        for run, graph in zip(runs, graphs, strict=True):
            assert run.wait(TIMEOUT_S * 2).state == "succeeded"
            works.check(run, graph, kills=killed)
        left, kills, done = left - batch, kills + killed, done + batch
    assert (done, kills > 0) == (GRAPHS, True)
    print(f"{done} graphs, {kills} kills, {what}: 0 stuck")  # noqa: T201 - the figure that the documentation gives


def kill_and_restart(server: EmbeddedServer | RabbitServer) -> None:
    server.kill()
    if isinstance(server, EmbeddedServer):
        server.restart()
    else:
        server.start()


def all_ended(runs: list[DagRun]) -> bool:
    return all(run.status().state != "running" for run in runs)


def wait_for_more(works: Works, runs: list[DagRun]) -> None:
    """Wait until something more has run, or nothing will."""
    seen = len(works.ledger.lines())
    wait_until(lambda: len(works.ledger.lines()) > seen + 10 or all_ended(runs), TIMEOUT_S)


@pytest.mark.long
def test_a_long_task_as_a_node_goes_on_from_its_checkpoint(make_works: Callable[..., Works]) -> None:
    works = make_works()
    works.beat()
    workers = [works.worker()]
    step = works.app.tasks["shop.long_step"]
    with DAG("long") as dag:
        dag.node("after", works.app.tasks["shop.step"].s("after"), after=[dag.node("count", step.s("count", 4000))])
    run = works.wheel.dags.submit(dag)
    for kill in range(2):
        wait_until(lambda: len(works.moments(run, "begins").get("count", ())) > kill, TIMEOUT_S)  # noqa: B023 - used at once
        reached = works.wheel.runs.show(run.nodes()[0].task_id)[0].progress or {"done": 0}
        wait_until(lambda: _progress(works, run) > reached["done"], TIMEOUT_S)  # noqa: B023 - used at once
        os.killpg(workers.pop().pid, signal.SIGKILL)
        workers.append(works.worker())
    assert run.wait(TIMEOUT_S).state == "succeeded"
    assert run.result("count") == 4000
    from_where = [line.value[2] for line in works.ledger.lines() if line.value[:2] == ["begins", "count"]]
    assert from_where[0] == 0 < from_where[1] < from_where[2]
    assert len(works.moments(run, "ends")["count"]) == 1


def _progress(works: Works, run: DagRun) -> int:
    shown = works.wheel.runs.show(run.nodes()[0].task_id)
    return shown[0].progress["done"] if shown and shown[0].progress else 0


@pytest.mark.long
def test_a_run_goes_on_with_rabbitmq_as_the_broker(
    make_works: Callable[..., Works], processes: Processes, rabbit_server: RabbitServer
) -> None:
    works = make_works("sqlite", broker_url=rabbit_server.url, tw_redis_url=processes.url)
    works.worker()
    graph = random_graph(random.Random(3), 40)
    run = works.submit(graph)
    assert run.wait(TIMEOUT_S).state == "succeeded"
    works.check(run, graph)
