"""The shop with tasks whose runs are on record."""

import time
from typing import Any

import shop

import celery_tw
from celery_tw import TimeWheel

app = shop.app
wheel = TimeWheel(app)


@app.task(base=celery_tw.Task, bind=True, name="shop.once")
def once(self: Any, value: Any = None, *more: Any) -> Any:
    shop.note(self.request, value=value)
    return value


@app.task(base=celery_tw.Task, bind=True, name="shop.slow", lock="slow:{key}")
def slow(self: Any, key: str, seconds: float) -> str:
    shop.note(self.request, value="begins")
    time.sleep(seconds)
    shop.note(self.request, value="ends")
    return key


@app.task(base=celery_tw.LongTask, bind=True, name="shop.count")
def count(self: Any, upto: int, pause: float = 0.001) -> int:
    """Count to *upto* from the last checkpoint."""
    state = self.checkpoint.load(default={"done": 0})
    shop.note(self.request, value={"from": state["done"], "token": self.lease.token})
    for _ in self.iterate(range(state["done"], upto), state, every=100):
        time.sleep(pause)
        state["done"] += 1
    shop.note(self.request, value={"to": state["done"]})
    return int(state["done"])
