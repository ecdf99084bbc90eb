"""The shop with tasks that take longer than it is until their next slot; each notes when it begins and how it ends."""

import os
import time
from pathlib import Path
from typing import Any

import shop

import celery_tw
from celery_tw import TimeWheel

app = shop.app
wheel = TimeWheel(app)


def note(request: Any, what: str) -> None:
    with Path(f"{os.environ['SHOP_LEDGER']}.overlapping").open("a") as file:
        file.write(f"{what} {request.id}\n")


@app.task(bind=True, name="shop.plain")
def plain(self: Any, seconds: float) -> None:
    """Take a while, with no base of ours."""
    note(self.request, "begins")
    time.sleep(seconds)
    note(self.request, "ends")


@app.task(bind=True, base=celery_tw.LongTask, name="shop.endless")
def endless(self: Any) -> None:
    """Run until somebody says to stop."""
    note(self.request, "begins")
    state = {"done": 0}
    try:
        for _ in self.iterate(range(1_000_000), state, seconds=0.2):
            time.sleep(0.01)
            state["done"] += 1
    finally:
        note(self.request, "ends")
