"""Waiting worker: a stock Celery worker whose task notes each run, to be asked how much it holds of what is not due yet.

``BENCH_URL`` is the broker, ``BENCH_VISIBILITY_S`` its visibility timeout: a message that a worker has held for so long is delivered again.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from celery import Celery, signals

from benchmarks.application import QUEUE, make_app
from benchmarks.contender import ROOT, stop

RUNS = "benchmarks.runs"
RECEIVED = "benchmarks.received"
QUIET = ("--without-gossip", "--without-mingle", "--without-heartbeat")


def noting_app(url: str, *, visibility_s: float, **settings: Any) -> Celery:
    """Return an app whose task writes its argument to the list `RUNS`; what its worker receives is counted in `RECEIVED`."""
    app = make_app(url, broker_transport_options={"visibility_timeout": visibility_s}, **settings)
    client = redis.Redis.from_url(app.conf.redbeat_redis_url)

    @app.task(name="benchmarks.note", shared=False)
    def note(number: int) -> None:
        client.rpush(RUNS, number)

    @signals.task_received.connect(weak=False)
    def count(**_: Any) -> None:
        client.incr(RECEIVED)

    return app


@contextmanager
def working(url: str, *, visibility_s: float) -> "Iterator[subprocess.Popen[bytes]]":
    """Run a worker for as long as the block lasts."""
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "benchmarks.waiting_worker",
        "worker",
        "-P",
        "solo",
        "-l",
        "ERROR",
        "-Q",
        QUEUE,
        *QUIET,
    ]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "BENCH_URL": url, "BENCH_VISIBILITY_S": str(visibility_s)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        stop(process)


if "BENCH_VISIBILITY_S" in os.environ:
    app = noting_app(os.environ["BENCH_URL"], visibility_s=float(os.environ["BENCH_VISIBILITY_S"]))
