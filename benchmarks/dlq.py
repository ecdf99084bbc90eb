"""Dead letters: what a burial takes, how fast letters are requeued, and what a flood of messages that are no tasks does to the others."""

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from celery import Celery
from celery.app.task import Context

from benchmarks.contender import stop
from benchmarks.dying_application import BAD, GOOD, TAKES_S, make_app
from benchmarks.report import Report
from benchmarks.server import start_server
from celery_tw.integration.dlq.burying import burying_of
from celery_tw.integration.dlq.failures import bury_request

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 600.0
LOOK_S = 0.01
QUEUE = "celery"
WARM = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--burials", type=int, default=5000, help="tasks buried one after the other (default %(default)s)")
    parser.add_argument("--letters", type=int, default=20_000, help="letters requeued in one call (default %(default)s)")
    parser.add_argument("--tasks", type=int, default=3000, help="good tasks (default %(default)s)")
    parser.add_argument("--poison", type=int, default=10_000, help="messages among them that are no tasks (default %(default)s)")


def run(options: argparse.Namespace) -> Report:
    """Measure burials and requeues in this process, and the flood on a worker with two processes."""
    logging.disable(logging.ERROR)  # twenty thousand lines of them would be measured instead
    report = Report("dlq")
    burial_ms = _burials(options.burials)
    report.add("a burial", per_s=1000 / statistics.median(burial_ms), ms=statistics.median(burial_ms), ms_99=_percentile(burial_ms, 99))
    requeued_per_s = _requeue(options.letters)
    report.add("requeue, in one call", per_s=requeued_per_s)
    alone_per_s = _flood(options.tasks, 0)
    flooded_per_s = _flood(options.tasks, options.poison)
    report.add(f"good tasks of {1000 * TAKES_S:g} ms", per_s=alone_per_s)
    report.add(f"the same, with {options.poison:,} poison messages among them", per_s=flooded_per_s)
    report.find("a burial, ms, median", statistics.median(burial_ms), at_most=2)
    report.find("a burial, ms, 99 of 100", _percentile(burial_ms, 99), at_most=2)
    report.find("letters requeued a second", requeued_per_s, at_least=5000)
    report.find("good tasks among poison / alone", flooded_per_s / alone_per_s, at_least=0.9)
    return report


def _burials(number: int) -> list[float]:
    """Return how many ms each burial took, of the request of a failed task in a process of the pool."""
    with start_server() as server, make_app(server.url) as app:
        return list(_buried(app, number))[WARM:]


def _buried(app: Celery, number: int) -> Iterator[float]:
    burying, task = burying_of(app), app.tasks[BAD]
    assert burying is not None
    for index in range(number + WARM):
        context = _request(index)
        error = _error_of(task, index)
        began_s = time.perf_counter()
        bury_request(burying, task, context, *error)
        yield 1000 * (time.perf_counter() - began_s)


def _request(index: int) -> Context:
    return Context(
        {
            "task": BAD,
            "id": f"t{index}",
            "tw_mid": f"m{index}",
            "lang": "py",
            "root_id": f"t{index}",
            "retries": 0,
            "args": [index],
            "kwargs": {"options": {"notify": True}},
            "hostname": "worker@host",
            "called_directly": False,
            "delivery_info": {"exchange": "", "routing_key": QUEUE},
            "properties": {"correlation_id": f"t{index}", "delivery_mode": 2},
        }
    )


def _error_of(task: Any, index: int) -> tuple[Exception, Any]:
    from billiard.einfo import ExceptionInfo  # noqa: PLC0415 - what a worker makes of an error

    try:
        task.run(index)
    except ValueError as error:
        return error, ExceptionInfo()
    raise AssertionError("the task has not failed")


def _requeue(number: int) -> float:
    """Return how many letters a second are let wait in the timetable."""
    with start_server() as server, make_app(server.url) as app:
        for _ in _buried(app, number):
            pass
        began_s = time.perf_counter()
        done = app.timewheel.dlq.requeue()
        took_s = time.perf_counter() - began_s
        assert done.count == number + WARM, done
        return done.count / took_s


def _flood(tasks: int, poison: int) -> float:
    """Return how many good tasks a second a worker ends, with *poison* messages spread evenly among them."""
    with start_server() as server, make_app(server.url) as app, server.client() as client:
        for _ in range(tasks + WARM):
            app.tasks[GOOD].apply_async()
        good = client.lrange(QUEUE, 0, -1)[::-1]
        client.delete(QUEUE)
        with client.pipeline(transaction=False) as pipe:
            sent = 0
            for index, message in enumerate(good):
                pipe.lpush(QUEUE, message)
                due = max(0, index - WARM + 1) * poison // tasks
                for number in range(sent, due):
                    pipe.lpush(QUEUE, _poisoned(message, number))
                sent = max(sent, due)
            pipe.execute()
        with _worker(server.url) as _:
            _wait_for(lambda: client.llen(QUEUE) <= tasks + poison)
            began_s = time.perf_counter()
            _wait_for(lambda: not client.exists(QUEUE, "unacked"))
            took_s = time.perf_counter() - began_s
        assert app.timewheel.dlq.count() == poison
        return tasks / took_s


def _poisoned(message: bytes, number: int) -> bytes:
    """Return *message* with a body that no task can have."""
    record = json.loads(message)
    record["body"] = "WzFd"  # [1]
    record["headers"] |= {"id": f"p{number}", "tw_mid": f"p{number}"}
    record["properties"] |= {"correlation_id": f"p{number}", "delivery_tag": f"p{number}"}
    return json.dumps(record).encode()


@contextmanager
def _worker(url: str) -> "Iterator[subprocess.Popen[bytes]]":
    command = [sys.executable, "-m", "celery", "-A", "benchmarks.dying_application", "worker", "-P", "prefork", "-c", "2", "-l", "CRITICAL"]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    environment = {**os.environ, "BENCH_URL": url}
    worker = subprocess.Popen(
        [*command, *quiet], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield worker
    finally:
        stop(worker)


def _percentile(values: list[float], percent: int) -> float:
    return sorted(values)[len(values) * percent // 100]


def _wait_for(come: Callable[[], Any]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not come():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"the worker has not come to its end in {PATIENCE_S:g} s")
        time.sleep(LOOK_S)
