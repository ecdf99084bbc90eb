"""The shop with entries that only code can write: ``add_periodic_task``, lazy arguments, a schedule class of its own."""

import time
from datetime import datetime, timedelta
from typing import Any

import shop
from celery import chain, chord, group
from celery.beat import BeatLazyFunc
from celery.schedules import BaseSchedule, schedstate

app = shop.app


class EachSecond(BaseSchedule):
    """A schedule as a user may write one: all it knows is ``is_due``."""

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        return last_run_at + timedelta(seconds=1) - self.now()

    def is_due(self, last_run_at: datetime) -> Any:
        left_s = self.remaining_estimate(last_run_at).total_seconds()
        return schedstate(left_s <= 0, left_s if left_s > 0 else 1.0)

    def __repr__(self) -> str:
        return "<each second>"


app.conf.beat_schedule["lazy"] = {"task": "shop.record", "schedule": 1.0, "args": (BeatLazyFunc(time.time_ns),)}
app.conf.beat_schedule["own class"] = {"task": "shop.record", "schedule": EachSecond()}


@app.on_after_finalize.connect
def add_entries(sender: Any, **kwargs: Any) -> None:
    sender.add_periodic_task(1.0, shop.record.s("by code"), name="by code")
    sender.add_periodic_task(1.0, group(shop.add.s(1, 2), shop.add.s(3, 4)), name="a group")
    sender.add_periodic_task(1.0, chain(shop.add.s(10, 1), shop.add.s(100)), name="a chain")
    sender.add_periodic_task(1.0, chord([shop.add.s(1000, 1), shop.add.s(1000, 2)], shop.total.s()), name="a chord")
