"""Dying application: tasks that take a while and tasks that fail, on the broker at ``BENCH_URL``."""

import os
import time
from typing import Any

from celery import Celery

import celery_tw

GOOD = "benchmarks.good"
BAD = "benchmarks.bad"
TAKES_S = 0.02


def make_app(url: str) -> Celery:
    """Return the app on the Redis at *url* (a unix socket, as kombu writes it)."""
    app = Celery("benchmarks", broker=url, backend=url, set_as_current=False)
    app.conf.update(broker_connection_retry_on_startup=True, worker_prefetch_multiplier=4)
    celery_tw.TimeWheel(app)

    @app.task(name=GOOD, shared=False, ignore_result=True)
    def good() -> None:
        time.sleep(TAKES_S)

    @app.task(name=BAD, shared=False, base=celery_tw.Task)
    def bad(number: int, **options: Any) -> None:
        raise ValueError(f"number {number} cannot be")

    app.finalize()
    return app


if "BENCH_URL" in os.environ:
    app = make_app(os.environ["BENCH_URL"])
