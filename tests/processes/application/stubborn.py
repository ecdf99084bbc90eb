"""The shop with tasks that do not heed a cancellation; each notes that it began."""

import os
import time
from pathlib import Path
from typing import Any

import shop

import celery_tw
from celery_tw import TimeWheel

app = shop.app
wheel = TimeWheel(app)


def note(what: str) -> None:
    with Path(f"{os.environ['SHOP_LEDGER']}.stubborn").open("a") as file:
        file.write(f"{what}\n")


@app.task(bind=True, base=celery_tw.LongTask, name="shop.deaf", lock="k")
def deaf(self: Any) -> None:
    """Never ask whether to stop; clean up when the process is told to end."""
    note("deaf begins")
    try:
        time.sleep(3600)
    finally:
        note("deaf cleans up")


@app.task(bind=True, base=celery_tw.Task, name="shop.impolite", lock="k", cancel_grace=0.5)
def impolite(self: Any) -> None:
    """Go on even when the process is told to end."""
    note("impolite begins")
    while True:
        try:
            time.sleep(3600)
        except BaseException:
            note("impolite goes on")


@app.task(base=celery_tw.Task, name="shop.next", lock="k")
def following() -> str:
    note("next")
    return "next"


@app.task(name="shop.collect")
def collect(parts: list[Any]) -> None:
    note("collected")
