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


@app.task(base=celery_tw.Task, bind=True, name="shop.guarded_step", ignore_result=True)
def guarded_step(self: Any, key: str, seconds: float = 0) -> str:
    shop.note(self.request, value=["begins", key])
    time.sleep(seconds)
    shop.note(self.request, value=["ends", key])
    return key
