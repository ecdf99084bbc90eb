"""Stock worker: Celery's worker in the process of the tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import celery
import pytest
from celery import Celery, signals
from celery.contrib.testing.worker import start_worker

runs_tasks_with_an_eta = pytest.mark.skipif(
    celery.VERSION[:2] < (5, 6), reason="this Celery's worker in a thread may never run a task with an ETA"
)
"""For tests that let a stock worker hold a task; seen without the plug-in as well."""


@contextmanager
def stock_worker(app: Celery, **options: Any) -> Iterator[None]:
    """Run a worker of *app*, which leaves the logging of the tests as it is."""

    def leave_it(**_: Any) -> None:
        return None

    signals.setup_logging.connect(leave_it)
    try:
        with start_worker(app, **{"pool": "solo", "perform_ping_check": False, "shutdown_timeout": 30, **options}):
            yield
    finally:
        signals.setup_logging.disconnect(leave_it)


@contextmanager
def working(app: Celery, *, concurrency: int = 4) -> Iterator[None]:
    """Run a worker of *app* whose tasks are threads of this process."""
    with stock_worker(app, pool="threads", concurrency=concurrency, shutdown_timeout=10):
        yield
