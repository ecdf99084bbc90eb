"""The shop of a fleet whose processes are killed at random: each body says when it begins and when it has come to its end, and where."""

import faulthandler
import os
import signal
import time
from pathlib import Path
from typing import Any

import shop
from celery import signals
from celery.app.task import Context

import celery_tw
from celery_tw import TimeWheel
from celery_tw.integration.messages.identity_headers import MID
from celery_tw.testing.ledger import Ledger, Line, What
from celery_tw.testing.recording import line_of

app = shop.app
wheel = TimeWheel(app)


@signals.worker_process_init.connect(weak=False)
def note_what_is_sent(**_: Any) -> None:
    """Note what the processes of a pool send; not in a beat, which would render otherwise if somebody listened."""
    signals.after_task_publish.connect(note_publish, weak=False)


@signals.task_received.connect(weak=False)
def note_receipt(request: Any = None, **_: Any) -> None:
    """Note that a worker has a message, and that the broker knows so."""
    note(What.RECEIVED, Context(request.request_dict))


@signals.worker_process_init.connect(weak=False)
def show_stacks_when_asked(**_: Any) -> None:
    """Write what all threads do to a file beside the ledger, at a signal."""
    file = Path(os.environ["SHOP_LEDGER"]).with_name(f"stacks-{os.getpid()}.txt").open("w")
    faulthandler.register(signal.SIGUSR2, file=file)


def note_publish(headers: Any = None, **_: Any) -> None:
    """Note that a broker has taken a message."""
    now_ms, mid, task_id = time.time_ns() // 1_000_000, headers[MID], headers["id"]
    line = Line(what=What.PUBLISHED, at_ms=now_ms, mid=mid, task_id=task_id, value={"pid": os.getpid()})
    Ledger(os.environ["SHOP_LEDGER"]).append(line)


def note(what: What, request: Any, **value: Any) -> None:
    Ledger(os.environ["SHOP_LEDGER"]).append(line_of(what, request, value={"pid": os.getpid(), **value}))


def body(request: Any, seconds: float = 0.02, **value: Any) -> None:
    """Be the body of a task: begin, take a moment, end."""
    note(What.STARTED, request, **value)
    time.sleep(seconds)
    note(What.ENDED, request, **value)


@app.task(base=celery_tw.Task, bind=True, name="fleet.step")
def step(self: Any, value: int = 0) -> int:
    body(self.request)
    return value + 1


@app.task(base=celery_tw.Task, bind=True, name="fleet.gather")
def gather(self: Any, numbers: list[int]) -> int:
    body(self.request)
    return sum(numbers)


@app.task(base=celery_tw.Task, bind=True, name="fleet.alone", lock="alone:{key}")
def alone(self: Any, key: str) -> str:
    body(self.request, 0.1, lock=key)
    return key


@app.task(base=celery_tw.Task, bind=True, name="fleet.flaky", max_retries=5)
def flaky(self: Any, countdown: float) -> int:
    body(self.request)
    if self.request.retries < 2:
        raise self.retry(countdown=countdown)
    return int(self.request.retries)


@app.task(base=celery_tw.LongTask, bind=True, name="fleet.count")
def count(self: Any, upto: int) -> int:
    state = self.checkpoint.load(default={"done": 0})
    note(What.STARTED, self.request, since=state["done"])
    for _ in self.iterate(range(state["done"], upto), state, every=20):
        time.sleep(0.005)
        state["done"] += 1
    note(What.ENDED, self.request)
    return int(state["done"])
