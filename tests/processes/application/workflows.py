"""The shop with tasks that are nodes of DAGs."""

import time
from typing import Any

import shop

import celery_tw
from celery_tw import TimeWheel

app = shop.app
wheel = TimeWheel(app)


@app.task(bind=True, name="shop.step")
def step(self: Any, key: str, seconds: float = 0) -> str:
    shop.note(self.request, value=["begins", key])
    time.sleep(seconds)
    shop.note(self.request, value=["ends", key])
    return key


@app.task(base=celery_tw.LongTask, bind=True, name="shop.long_step")
def long_step(self: Any, key: str, upto: int) -> int:
    """Count to *upto* from the last checkpoint."""
    state = self.checkpoint.load(default={"done": 0})
    shop.note(self.request, value=["begins", key, state["done"]])
    for _ in self.iterate(range(state["done"], upto), state, every=100):
        time.sleep(0.001)
        state["done"] += 1
    shop.note(self.request, value=["ends", key, state["done"]])
    return int(state["done"])


@app.task(base=celery_tw.Task, bind=True, name="shop.guarded_step", ignore_result=True)
def guarded_step(self: Any, key: str, seconds: float = 0) -> str:
    shop.note(self.request, value=["begins", key])
    time.sleep(seconds)
    shop.note(self.request, value=["ends", key])
    return key
