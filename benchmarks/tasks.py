"""What the guards cost: no-op tasks a second on one prefork worker with two processes, plain and guarded, in one run.

``python -m benchmarks.tasks [NUMBER]``. Each kind is measured three times, in turn, and the medians are compared: ratios hold where
absolute figures do not, and neither does on a machine that is busy with something else. Redis has its append-only file on. A queue is
filled first, and the time runs from the fiftieth task to the last.
"""

import os
import statistics
import subprocess
import sys
import time

from celery import Celery

import celery_tw
from celery_tw.embedded import EmbeddedServer

ROUNDS = 3
NUMBER = 3000

app = Celery("bench", broker=os.environ.get("BENCH_URL"), backend=os.environ.get("BENCH_URL"))
app.conf.update(worker_prefetch_multiplier=4, broker_connection_retry_on_startup=True)


@app.task(name="plain", acks_late=True)
def plain(number: int) -> int:
    return number


@app.task(name="once", base=celery_tw.Task)
def once(number: int) -> int:
    return number


@app.task(name="locked", base=celery_tw.Task, lock="k:{number}")
def locked(number: int) -> int:
    return number


def rate(url: str, name: str, number: int) -> float:
    """Return how many tasks of *name* a worker finishes in a second."""
    with Celery("bench", broker=url, backend=url, set_as_current=False) as sender:
        sender.conf.update(result_expires=60)
        results = [sender.send_task(name, (index,)) for index in range(number)]
        command = [sys.executable, "-m", "celery", "-A", "benchmarks.tasks", "worker", "-P", "prefork", "-c", "2", "-l", "ERROR"]
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        worker = subprocess.Popen([*command, *quiet], env={**os.environ, "BENCH_URL": url}, **silent)
        try:
            backend = sender.backend.client
            wait_for(backend, results[:50])
            began_s = time.perf_counter()
            wait_for(backend, results)
            return (number - 50) / (time.perf_counter() - began_s)
        finally:
            worker.terminate()
            worker.wait(20)


def wait_for(backend: object, results: list) -> None:
    """Wait until all of *results* are stored."""
    keys = [f"celery-task-meta-{result.id}" for result in results]
    while backend.exists(*keys) < len(keys):  # type: ignore[attr-defined]
        time.sleep(0.01)


def main() -> None:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else NUMBER
    rates: dict[str, list[float]] = {"plain": [], "once": [], "locked": []}
    for _ in range(ROUNDS):
        for name, measured in rates.items():
            with EmbeddedServer.start() as server:
                measured.append(rate(server.url, name, number))
    base = statistics.median(rates["plain"])
    for name, measured in rates.items():
        median = statistics.median(measured)
        each = ", ".join(f"{one:.0f}" for one in measured)
        print(f"{name:8} {median:7.0f} tasks/s  {100 * (1 - median / base):5.1f} % less than plain  (rounds: {each})")


if __name__ == "__main__":
    main()
