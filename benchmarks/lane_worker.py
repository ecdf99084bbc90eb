"""Lane worker: a stock Celery worker, one task at a time, whose task notes in which lane it was sent, and when it began.

``BENCH_LANES`` says what makes a task urgent: ``lanes`` are celery-tw's, ``redis`` and ``rabbit`` are Celery's priorities on either broker.
``BENCH_NOTES`` is the Redis that the notes go to, and the timetable.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from celery import Celery
from kombu import Exchange, Queue

from benchmarks.application import QUEUE, make_app
from benchmarks.contender import ROOT, stop
from celery_tw import TimeWheel

STARTS = "benchmarks.starts"
TASK_S = 0.002
URGENCY: dict[str, dict[str, dict[str, Any]]] = {
    "lanes": {"high": {"lane": "high"}, "medium": {"lane": "medium"}, "low": {"lane": "low"}},
    "redis": {"high": {"priority": 0}, "medium": {"priority": 5}, "low": {"priority": 9}},
    "rabbit": {"high": {"priority": 9}, "medium": {"priority": 5}, "low": {"priority": 0}},
}
"""What each kind sends a task with."""


def lane_app(url: str, notes_url: str, kind: str) -> Celery:
    """Return an app on the broker at *url*, whose task ``benchmarks.begin`` takes the lane it is sent in."""
    settings: dict[str, Any] = {"worker_prefetch_multiplier": 1, "tw_redis_url": notes_url}
    if kind == "rabbit":
        settings["task_queues"] = [Queue(QUEUE, Exchange(QUEUE), routing_key=QUEUE, queue_arguments={"x-max-priority": 10})]
    if kind == "lanes":
        settings["tw_fair_queues"] = [QUEUE]
    app = make_app(url, **settings)
    if kind == "lanes":
        TimeWheel(app)
    client = redis.Redis.from_url(notes_url.replace("redis+socket://", "unix://").partition("?")[0])

    @app.task(name="benchmarks.begin", shared=False)
    def begin(lane: str, sent_s: float) -> None:
        client.rpush(STARTS, f"{lane} {sent_s} {time.time()}")
        time.sleep(TASK_S)

    return app


@contextmanager
def working(url: str, notes_url: str, kind: str) -> Iterator[None]:
    """Run a worker for as long as the block lasts."""
    with _process(url, notes_url, kind, "worker", "-P", "solo", "-Q", QUEUE, "--without-gossip", "--without-mingle"):
        yield


@contextmanager
def leading(url: str, notes_url: str) -> Iterator[None]:
    """Run a leader for as long as the block lasts."""
    with _process(url, notes_url, "lanes", "beat", "-S", "timewheel", "--pidfile="):
        yield


@contextmanager
def _process(url: str, notes_url: str, kind: str, *arguments: str) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "benchmarks.lane_worker", *arguments, "-l", "ERROR"],
        cwd=ROOT,
        env={**os.environ, "BENCH_LANES": kind, "BENCH_LANES_URL": url, "BENCH_NOTES": notes_url},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        stop(process)


if "BENCH_LANES" in os.environ:
    app = lane_app(os.environ["BENCH_LANES_URL"], os.environ["BENCH_NOTES"], os.environ["BENCH_LANES"])
