"""The shop with tasks whose runs are on record."""

import os
import signal
import time
from typing import Any

import shop

import celery_tw
from celery_tw import TimeWheel
from celery_tw.testing.ledger import Ledger, Line, What

app = shop.app
wheel = TimeWheel(app)


def note_step() -> None:
    """Note that a step of a long task was done: one byte in a file beside the ledger."""
    steps = os.open(f"{os.environ['SHOP_LEDGER']}.steps", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(steps, b".")
    os.close(steps)


@app.task(base=celery_tw.Task, bind=True, name="shop.once")
def once(self: Any, value: Any = None, *more: Any) -> Any:
    shop.note(self.request, value=value)
    return value


@app.task(base=celery_tw.Task, bind=True, name="shop.early", lock="early", acks_late=False, reject_on_worker_lost=False)
def early(self: Any, value: Any = None) -> Any:
    shop.note(self.request, value=value)
    return value


@app.task(base=celery_tw.Task, bind=True, name="shop.gather")
def gather(self: Any, numbers: list[int]) -> int:
    shop.note(self.request, value=sum(numbers))
    return sum(numbers)


@app.task(base=celery_tw.Task, bind=True, name="shop.slow", lock="slow:{key}")
def slow(self: Any, key: str, seconds: float) -> str:
    shop.note(self.request, value="begins")
    time.sleep(seconds)
    shop.note(self.request, value="ends")
    return key


@app.task(base=celery_tw.Task, bind=True, name="shop.flaky", max_retries=5)
def flaky(self: Any, countdown: float) -> int:
    shop.note(self.request, value=self.request.retries)
    if self.request.retries < 2:
        raise self.retry(countdown=countdown)
    return int(self.request.retries)


@app.task(base=celery_tw.Task, bind=True, name="shop.doomed")
def doomed(self: Any) -> None:
    shop.note(self.request)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(base=celery_tw.LongTask, bind=True, name="shop.doomed_long")
def doomed_long(self: Any) -> None:
    shop.note(self.request)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="shop.told")
def told(request: Any, error: Any, traceback: Any) -> None:
    """Note, as an errback, whose failure it was told of; it runs where the failure was made known."""
    now_ms, what = time.time_ns() // 1_000_000, type(error).__name__
    Ledger(os.environ["SHOP_LEDGER"]).append(Line(what=What.ENDED, at_ms=now_ms, task="shop.told", task_id=request.id, value=what))


@app.task(base=celery_tw.LongTask, bind=True, name="shop.count")
def count(self: Any, upto: int, pause: float = 0.001) -> int:
    """Count to *upto* from the last checkpoint."""
    state = self.checkpoint.load(default={"done": 0})
    shop.note(self.request, value={"from": state["done"], "token": self.lease.token})
    for _ in self.iterate(range(state["done"], upto), state, every=100):
        time.sleep(pause)
        note_step()
        state["done"] += 1
    shop.note(self.request, value={"to": state["done"]})
    return int(state["done"])
