"""DAG: what an edge costs, and how many nodes run a second, beside Celery's chain and its chords level by level."""

import argparse
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
COMMITS = 200

Graph = dict[str, list[str]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--chain", type=int, default=200, help="nodes of the chain (default %(default)s)")
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
            commits_ms = 1000 * 2 * bare_commit_s(database_url)
            edge_ms = 1000 * dag_s(app, chain_of(options.chain)) / options.chain
            celery_ms = 1000 * chain_s(app, options.chain) / options.chain
            report.add("celery-tw: chain", nodes=options.chain, ms_a_node=edge_ms, two_commits_ms=commits_ms)
            report.add("Celery: chain", nodes=options.chain, ms_a_node=celery_ms)
            for name, graph in (
                ("random", random_graph(options.random)),
                ("layered", layered_graph(options.layers, options.width)),
            ):
                ours_s, theirs_s = dag_s(app, graph), chords_s(app, graph)
                report.add(f"celery-tw: {name}", nodes=len(graph), seconds=ours_s, nodes_a_second=len(graph) / ours_s)
                report.add(f"Celery: {name}, chord by chord", nodes=len(graph), seconds=theirs_s, nodes_a_second=len(graph) / theirs_s)
                report.find(f"{name}: time of the DAG / time of the chords", ours_s / theirs_s)
    report.find("an edge / two bare commits", edge_ms / commits_ms, at_most=3)
    report.find("an edge of a DAG / a link of a chain", edge_ms / celery_ms)
    return report


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
    """Return how long a DAG takes, from its submit to the end of its run."""
    with DAG("benchmark") as dag:
        for key, parents in graph.items():
            dag.node(key, app.tasks["benchmarks.step"].s(), after=parents)
    began_s = time.perf_counter()
    view = app.timewheel.dags.submit(dag).wait(PATIENCE_S)
    if view.state != "succeeded":
        raise RuntimeError(f"the run of the benchmark has {view.state}")
    return time.perf_counter() - began_s


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


def bare_commit_s(database_url: str) -> float:
    """Return the median time of a transaction that changes one row."""
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
    return median(times)
