"""Contender: one scheduler as a real ``celery beat`` process."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STOP_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Contender:
    """A scheduler by its name in the tables and the name that ``celery beat -S`` takes."""

    name: str
    scheduler: str


TIME_WHEEL = Contender("celery-tw", "timewheel")
RED_BEAT = Contender("RedBeat", "redbeat.RedBeatScheduler")
CELERY_BEAT = Contender("celery beat", "celery.beat:Scheduler")


def start(contender: Contender, url: str, *, environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    """Start a beat process of *contender* on the broker at *url*; the errors it logs go to our stderr."""
    command = [sys.executable, "-m", "celery", "-A", "benchmarks.application", "beat", "-S", contender.scheduler]
    return subprocess.Popen(
        [*command, "-l", "ERROR", "--pidfile="],
        cwd=ROOT,
        env={**os.environ, **environment, "BENCH_URL": url},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def stop(process: "subprocess.Popen[bytes]", how: signal.Signals = signal.SIGTERM) -> None:
    """End a beat process, by SIGKILL when it does not end in time."""
    if process.poll() is None:
        process.send_signal(how)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def running(contender: Contender, url: str, **environment: object) -> "Iterator[subprocess.Popen[bytes]]":
    """Run a beat process of *contender* for as long as the block lasts."""
    process = start(contender, url, environment={name: str(value) for name, value in environment.items()})
    try:
        yield process
    finally:
        stop(process, signal.SIGKILL if contender is not TIME_WHEEL else signal.SIGTERM)
