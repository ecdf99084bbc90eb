"""The shop with tasks that die, each in its own way, until somebody has removed the cause: the file ``<ledger>.mended``."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import shop
from celery.exceptions import Reject
from kombu import serialization

import celery_tw
from celery_tw import Retry, TimeWheel

app = shop.app
wheel = TimeWheel(app)
MENDED, SPOILT = Path(f"{os.environ['SHOP_LEDGER']}.mended"), Path(f"{os.environ['SHOP_LEDGER']}.spoilt")

serialization.register("shops-own", json.dumps, json.loads, content_type="application/x-shop", content_encoding="utf-8")


def end(task: Any, value: Any) -> Any:
    """Note that a body has come to its end."""
    shop.note(task.request, value="ends")
    return value


def take_down(task: Any, value: Any) -> Any:
    """Take the whole worker down, as its host does when memory runs out."""
    shop.note(task.request, value="begins")
    if not MENDED.exists():
        os.killpg(0, signal.SIGKILL)
    return end(task, value)


@app.task(base=celery_tw.Task, bind=True, name="shop.pays")
def pays(self: Any, value: Any) -> Any:
    return end(self, value)


@app.task(base=celery_tw.Task, bind=True, name="shop.fails", retry=Retry(max=1, base=0))
def fails(self: Any, value: Any) -> Any:
    if not MENDED.exists():
        raise OSError("the bank does not answer")
    return end(self, value)


@app.task(base=celery_tw.Task, bind=True, name="shop.rejects")
def rejects(self: Any, value: Any) -> Any:
    if not MENDED.exists():
        raise Reject("not this one", requeue=False)
    return end(self, value)


@app.task(base=celery_tw.Task, bind=True, name="shop.dawdles", soft_time_limit=1)
def dawdles(self: Any, value: Any) -> Any:
    if not MENDED.exists():
        time.sleep(60)
    return end(self, value)


@app.task(base=celery_tw.Task, bind=True, name="shop.hangs", time_limit=1)
def hangs(self: Any, value: Any) -> Any:
    if not MENDED.exists():
        time.sleep(60)
    return end(self, value)


@app.task(base=celery_tw.Task, bind=True, name="shop.crashes")
def crashes(self: Any, value: Any) -> Any:
    if not MENDED.exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return end(self, value)


@app.task(base=celery_tw.Task, bind=True, name="shop.poisons")
def poisons(self: Any, value: Any) -> Any:
    return take_down(self, value)


@app.task(bind=True, name="shop.kills", acks_late=True)
def kills(self: Any, value: Any) -> Any:
    """Do the same, without a base of ours."""
    return take_down(self, value)


@app.task(bind=True, name="shop.breaks")
def breaks(self: Any, value: Any) -> Any:
    """Fail without a base of ours, which would give the task back while Redis is away."""
    if not MENDED.exists():
        raise OSError("the bank does not answer")
    return end(self, value)


@app.task(base=celery_tw.LongTask, bind=True, name="shop.counts")
def counts(self: Any, upto: int) -> int:
    state = self.checkpoint.load(default={"done": 0})
    shop.note(self.request, value="begins")
    for _ in self.iterate(range(state["done"], upto), state, every=10):
        time.sleep(0.01)
        state["done"] += 1
    return int(end(self, state["done"]))


@app.task(base=celery_tw.Task, bind=True, name="shop.waits")
def waits(self: Any, value: Any) -> Any:
    """Wait until it is mended, or spoilt."""
    shop.note(self.request, value="begins")
    while not MENDED.exists():
        if SPOILT.exists():
            raise OSError("spoilt")
        time.sleep(0.02)
    return end(self, value)


if MENDED.exists():

    @app.task(base=celery_tw.Task, bind=True, name="shop.unknown")
    def unknown(self: Any, value: Any) -> Any:
        return end(self, value)
