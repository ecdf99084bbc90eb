"""Filling: entries of each kind, stored as a user of each scheduler would store them."""

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import redis
from celery import Celery

from benchmarks.application import KWARGS, entry_name
from celery_tw import TimeWheel, every, once
from celery_tw.core.identity import FireIds
from celery_tw.integration.connected import Connected
from celery_tw.stores.redis.codec import unpack_one_time
from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.redis.records import Records
from celery_tw.stores.redis.timetable import Timetable
from celery_tw.stores.redis.writing import CHUNK, OneTimeWrite


def store_one_time(app: Celery, count: int, *, at: datetime) -> float:
    """Store *count* one-time tasks due *at* one moment; return how many seconds it took."""
    return _store_many(app, count, once(at))


def store_spread(app: Celery, count: int, *, first: datetime, within_s: float) -> None:
    """Store *count* one-time tasks due one after the other, from *first* on."""
    task, step = app.tasks["benchmarks.work"], timedelta(seconds=within_s / count)
    TimeWheel(app).schedule_many(
        {"name": entry_name(number), "signature": task.s(number, **KWARGS), "schedule": once(first + number * step)}
        for number in range(count)
    )


def store_recurring(app: Celery, count: int, *, period_s: float, anchor: datetime) -> float:
    """Store *count* entries on the grid of *period_s* through *anchor*; return how many seconds it took."""
    return _store_many(app, count, every(seconds=period_s, anchor=anchor))


def _store_many(app: Celery, count: int, schedule: Any) -> float:
    task = app.tasks["benchmarks.work"]
    specs: Iterator[dict[str, Any]] = (
        {"name": entry_name(number), "signature": task.s(number, **KWARGS), "schedule": schedule} for number in range(count)
    )
    started_s = time.perf_counter()
    TimeWheel(app).schedule_many(specs)
    return time.perf_counter() - started_s


def stored_messages(app: Celery, client: redis.Redis) -> list[bytes]:
    """Return the message of each one-time task that waits in the timetable."""
    keys = Connected(app).keys
    stored = Records(client, keys)
    ids = [int(member) for member in client.zrange(keys.due, 0, -1)]
    messages: list[bytes] = []
    for first in range(0, len(ids), CHUNK):
        records = client.mget([keys.entry(entry_id) for entry_id in ids[first : first + CHUNK]])
        messages += [unpack_one_time(record or b"").message for record in stored.whole(records)]
    return messages


def hold_in_store(app: Celery, client: redis.Redis, count: int, *, first: datetime, spread_s: float) -> None:
    """Store *count* one-time tasks due from *first* on, evenly over *spread_s*, quickly: one record is made and copied.

    They stand in the timetable as ``schedule_many`` would put them, but under no name, and only the writing script is run.
    """
    keys: Keys = Connected(app).keys
    timetable = Timetable(client, keys)
    store_one_time(app, 1, at=first + timedelta(seconds=spread_s))
    ((_, entry_id),) = timetable.nearest(1)
    record = unpack_one_time(timetable.read_one_time(entry_id)[0] or b"")
    timetable.writing.remove(record.name, entry_id)
    fire_ids, first_ms = FireIds("held"), int(first.timestamp() * 1000)
    for start in range(0, count, CHUNK):
        ids = timetable.reserve(min(CHUNK, count - start), one_time=True)
        dues = [first_ms + int(spread_s * 1000 * (start + index) / count) for index in range(len(ids))]
        template = record.pack().split(b"\n", 5)
        writes = []
        for number, due_ms in zip(ids, dues, strict=True):
            mid = fire_ids.fire_id(number, due_ms)
            template[1], template[4] = mid.encode(), b""
            writes.append(OneTimeWrite(name="", entry_id=number, mid=mid, due_ms=due_ms, record=b"\n".join(template)))
        timetable.writing.put_one_time(writes)
