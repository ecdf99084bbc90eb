"""DAG: what an edge costs, and how many nodes run a second, beside Celery's chain and its chords level by level."""

import argparse
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from celery import Celery, chain, chord
from sqlalchemy import Column, Integer, MetaData, Table

from benchmarks.report import Report
from benchmarks.server import start_server
from benchmarks.workflows import workflow_app, working
from celery_tw import DAG
from celery_tw.integration.dags.parts import parts_of
from celery_tw.stores.sql.database import Database

PATIENCE_S = 900.0
COMMITS = 40
ROUNDS = 5

Graph = dict[str, list[str]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--chain", type=int, default=100, help="nodes of the chain, which is run five times (default %(default)s)")
    parser.add_argument("--random", type=int, default=1000, help="nodes of the random DAG (default %(default)s)")
    parser.add_argument("--layers", type=int, default=100, help="layers of the layered DAG (default %(default)s)")
    parser.add_argument("--width", type=int, default=100, help="nodes of a layer (default %(default)s)")
    parser.add_argument("--database", help="the URL of an empty database; a SQLite file by default")


def run(options: argparse.Namespace) -> Report:
    """Run each graph as a DAG and as Celery can run it, with the same worker."""
    report = Report("dag")
    with tempfile.TemporaryDirectory() as folder, start_server() as server:
        database_url = options.database or f"sqlite:///{Path(folder) / 'dags.db'}"
        with working(server.url, database_url), client(server.url, database_url) as app:
            edges = [edge_of(app, database_url, options.chain) for _ in range(ROUNDS)]
            report.add(
                "celery-tw: chain",
                nodes=options.chain,
                ms_a_node=median(edge.ours_ms for edge in edges),
                two_commits_ms=median(edge.commits_ms for edge in edges),
            )
            report.add("Celery: chain", nodes=options.chain, ms_a_node=median(edge.celery_ms for edge in edges))
            for name, graph in (
                ("random", random_graph(options.random)),
                ("layered", layered_graph(options.layers, options.width)),
            ):
                ours_s, theirs_s = dag_s(app, graph), chords_s(app, graph)
                report.add(f"celery-tw: {name}", nodes=len(graph), seconds=ours_s, nodes_a_second=len(graph) / ours_s)
                report.add(f"Celery: {name}, chord by chord", nodes=len(graph), seconds=theirs_s, nodes_a_second=len(graph) / theirs_s)
                report.find(f"{name}: time of the DAG / time of the chords", ours_s / theirs_s)
    report.find("an edge / two bare commits", median(edge.ours_ms / edge.commits_ms for edge in edges), at_most=3)
    report.find("a link of a chain / two bare commits", median(edge.celery_ms / edge.commits_ms for edge in edges))
    report.find("an edge of a DAG / a link of a chain", median(edge.ours_ms / edge.celery_ms for edge in edges))
    return report


@dataclass(frozen=True, slots=True)
class Edge:
    """What an edge cost in one round, and what else took place in it."""

    ours_ms: float
    celery_ms: float
    commits_ms: float


def edge_of(app: Celery, database_url: str, size: int) -> Edge:
    """Run a chain of *size* nodes as a DAG and as Celery's, with bare commits before, between and after them."""
    commits = bare_commits_s(database_url)
    ours_s = dag_s(app, chain_of(size))
    commits += bare_commits_s(database_url)
    celery_s = chain_s(app, size)
    commits += bare_commits_s(database_url)
    return Edge(1000 * ours_s / size, 1000 * celery_s / size, 1000 * 2 * median(commits))


@contextmanager
def client(url: str, database_url: str) -> Iterator[Celery]:
    app = workflow_app(url, database_url)
    try:
        yield app
    finally:
        parts_of(app).close()
        app.close()


# Graphs


def chain_of(size: int) -> Graph:
    return {str(number): [str(number - 1)] if number else [] for number in range(size)}


def random_graph(size: int) -> Graph:
    randomness = random.Random(size)
    return {
        str(at): [str(each) for each in randomness.sample(range(at), min(at, randomness.choice([0, 1, 1, 2, 2, 3])))] for at in range(size)
    }


def layered_graph(layers: int, width: int) -> Graph:
    """Return layers of nodes, each of which has two parents in the layer before it."""
    return {
        f"{layer}-{place}": [f"{layer - 1}-{(place + step) % width}" for step in range(min(2, width))] if layer else []
        for layer in range(layers)
        for place in range(width)
    }


def levels_of(graph: Graph) -> list[int]:
    """Return how many nodes there are on each level, which is how Celery's groups have to be cut."""
    depths: dict[str, int] = {}
    for key, parents in graph.items():
        depths[key] = 1 + max((depths[parent] for parent in parents), default=-1)
    return [sum(depth == level for depth in depths.values()) for level in range(1 + max(depths.values()))]


# Times


def dag_s(app: Celery, graph: Graph) -> float:
    """Return how long a DAG takes, from its submit to the end of its run, as the run itself tells: who waits looks once a second."""
    with DAG("benchmark") as dag:
        for key, parents in graph.items():
            dag.node(key, app.tasks["benchmarks.step"].s(), after=parents)
    view = app.timewheel.dags.submit(dag).wait(PATIENCE_S)
    if view.state != "succeeded":
        raise RuntimeError(f"the run of the benchmark has {view.state}")
    return float((view.ended - view.submitted).total_seconds())


def chain_s(app: Celery, size: int) -> float:
    step = app.tasks["benchmarks.step"]
    began_s = time.perf_counter()
    chain(*[step.si() for _ in range(size)], app=app).apply_async().get(timeout=PATIENCE_S)
    return time.perf_counter() - began_s


def chords_s(app: Celery, graph: Graph) -> float:
    """Return how long the levels of *graph* take, each a chord that begins when the one before it has ended."""
    step = app.tasks["benchmarks.step"]
    began_s = time.perf_counter()
    for width in levels_of(graph):
        chord([step.si() for _ in range(width)], step.si(), app=app).apply_async().get(timeout=PATIENCE_S)
    return time.perf_counter() - began_s


def bare_commits_s(database_url: str) -> list[float]:
    """Return the times of transactions that change one row."""
    database, metadata = Database(database_url), MetaData()
    table = Table("benchmark", metadata, Column("id", Integer, primary_key=True), Column("value", Integer))
    times: list[float] = []
    try:
        database.transaction(metadata.create_all)
        database.transaction(lambda connection: connection.execute(table.insert().values(id=1, value=0)))
        for _ in range(COMMITS):
            began_s = time.perf_counter()
            database.transaction(lambda connection: connection.execute(table.update().values(value=table.c.value + 1)))
            times.append(time.perf_counter() - began_s)
        database.transaction(metadata.drop_all)
    finally:
        database.close()
    return times
