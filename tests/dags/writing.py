"""Writing: DAGs of the diary's tasks, and a worker that runs them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery

from celery_tw import DAG
from tests.stock_worker import stock_worker

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
