"""Workflows: the app of the `dag` benchmark. ``BENCH_WORKFLOW_URL`` is its broker and result backend, ``BENCH_DATABASE`` its database."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery

from benchmarks.contender import ROOT, stop
from celery_tw import TimeWheel

QUIET = ("--without-gossip", "--without-mingle", "--without-heartbeat")
PROCESSES = 2


def workflow_app(url: str, database_url: str) -> Celery:
    """Return an app whose one task takes anything and returns nothing much."""
    app = Celery("workflows", broker=url, backend=url, set_as_current=False)
    app.conf.update(broker_connection_retry_on_startup=True, tw_database_url=database_url, worker_prefetch_multiplier=4)
    TimeWheel(app)

    @app.task(name="benchmarks.step", shared=False)
    def step(*_: Any) -> int:
        return 1

    app.finalize()
    return app


@contextmanager
def working(url: str, database_url: str) -> Iterator[None]:
    """Run a prefork worker for as long as the block lasts, and wait until it answers."""
    environment = {**os.environ, "BENCH_WORKFLOW_URL": url, "BENCH_DATABASE": database_url}
    command = [sys.executable, "-m", "celery", "-A", "benchmarks.workflows", "worker", "-P", "prefork", "-c", str(PROCESSES), "-l", "ERROR"]
    process = subprocess.Popen([*command, *QUIET], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        with workflow_app(url, database_url) as app:
            app.tasks["benchmarks.step"].delay().get(timeout=60)
        yield
    finally:
        stop(process)


if "BENCH_WORKFLOW_URL" in os.environ:
    app = workflow_app(os.environ["BENCH_WORKFLOW_URL"], os.environ["BENCH_DATABASE"])
