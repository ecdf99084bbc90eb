"""Filling RedBeat: entries of its own, stored as its users store them."""

import time
from datetime import UTC, datetime, timedelta

from celery import Celery
from celery.schedules import schedule as celery_schedule
from redbeat import RedBeatSchedulerEntry

from benchmarks.application import KWARGS, entry_name


def store_for_redbeat(app: Celery, count: int, *, period_s: float, last_run_s: float, first: int = 0) -> float:
    """Store *count* RedBeat entries, numbered from *first*, that ran *last_run_s* ago; return how many seconds it took."""
    last_run_at = datetime.now(UTC) - timedelta(seconds=last_run_s)
    period = celery_schedule(timedelta(seconds=period_s), app=app)
    started_s = time.perf_counter()
    for number in range(first, first + count):
        entry = RedBeatSchedulerEntry(
            entry_name(number), "benchmarks.work", period, args=(number,), kwargs=KWARGS, app=app, last_run_at=last_run_at
        )
        entry.save()
    return time.perf_counter() - started_s
