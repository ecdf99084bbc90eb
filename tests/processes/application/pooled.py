"""The shop with guarded tasks that run alike in every pool; one of them is guarded by a pattern only."""

import os
import time
from pathlib import Path
from typing import Any

import shop

import celery_tw
from celery_tw import TimeWheel

app = shop.app
wheel = TimeWheel(app, guard={"shop.patterned": {"lock": "patterned"}})


def note(what: str) -> None:
    with Path(f"{os.environ['SHOP_LEDGER']}.pooled").open("a") as file:
        file.write(f"{what}\n")


@app.task(bind=True, base=celery_tw.LongTask, name="shop.locked", lock="k")
def locked(self: Any, name: str) -> str:
    note(f"{name} begins")
    time.sleep(0.3)
    note(f"{name} ends")
    return name


@app.task(name="shop.patterned")
def patterned(name: str) -> str:
    """Have the same guard as `locked`, without a base."""
    note(f"{name} begins")
    time.sleep(0.3)
    note(f"{name} ends")
    return name


@app.task(bind=True, base=celery_tw.LongTask, name="shop.count")
def count(self: Any, upto: int) -> int:
    state = self.checkpoint.load(default={"done": 0})
    note(f"counts from {state['done']}")
    for _ in self.iterate(range(state["done"], upto), state, every=20):
        time.sleep(0.005)
        state["done"] += 1
    return int(state["done"])


@app.task(bind=True, base=celery_tw.LongTask, name="shop.ordered", ordering_key="k")
def ordered(self: Any, name: str, seconds: float) -> str:
    note(f"{name} begins")
    time.sleep(seconds)
    note(f"{name} ends")
    return name
