"""Writing: DAGs of the diary's tasks, a worker that runs them, and a scheduler that leads."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery

from celery_tw import DAG
from celery_tw.integration.node import Node
from tests.stock_worker import stock_worker
from tests.waiting import wait_until

TIMEOUT_S = 30


@contextmanager
def working(app: Celery, *, concurrency: int = 4, **options: Any) -> Iterator[None]:
    with stock_worker(app, pool="threads", concurrency=concurrency, **options):
        yield


def work(app: Celery, key: str, result: Any = None) -> Any:
    return app.tasks["shop.work"].s(key, result)


def states(run: Any) -> dict[str, str]:
    return {node.key: node.state for node in run.nodes()}


def dag_of(app: Celery, **after: str) -> DAG:
    """``dag_of(app, a="", b="a")``: nodes of ``shop.work``, each after those that are named."""
    with DAG("etl") as dag:
        for key, parents in after.items():
            dag.node(key, work(app, key, key.upper()), after=parents.split())
    return dag


@contextmanager
def leading(app: Celery) -> Iterator[None]:
    """Let a scheduler of *app* lead, in threads of this process."""
    node = Node(app)
    node.start()
    try:
        wait_until(node.elector.leads, TIMEOUT_S, message="it to lead")
        yield
    finally:
        node.close()
