"""Application: the Celery app that every contender runs, told by the environment which entries its settings hold.

``BENCH_URL`` is the broker. ``BENCH_STATIC`` entries stand in ``beat_schedule``, due every ``BENCH_PERIOD_S`` seconds; the first
``BENCH_OVERDUE`` of them ran last two periods ago, the others now. ``BENCH_LOOP_S`` is how often RedBeat looks, which its fail-over takes.
``BENCH_TIMETABLE`` is the Redis of the timetable when the broker is another server. With ``BENCH_FAIR_CAPACITY`` the queue is fair, and has
room for twice so many messages.
"""

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from celery import Celery

QUEUE = "celery"
KWARGS = {"tenant": "acme-corporation", "kind": "daily-report", "options": {"retries": 3, "notify": True}}


def entry_name(number: int) -> str:
    """Return the name of the entry whose task gets *number* as its argument."""
    return f"entry-{number:07d}"


def make_app(url: str, **settings: Any) -> Celery:
    """Return an app on the Redis at *url* (a unix socket, as kombu writes it) with the benchmark's one task."""
    app = Celery("benchmarks", broker=url, set_as_current=False)
    app.conf.update(
        broker_connection_retry_on_startup=True,
        enable_utc=True,
        redbeat_redis_url=url.replace("redis+socket://", "unix://").partition("?")[0],
        result_expires=None,
        task_ignore_result=True,
        timezone="UTC",
        **settings,
    )

    @app.task(name="benchmarks.work", shared=False)
    def work(number: int, **options: Any) -> None:
        """Do nothing: only the message counts."""

    app.finalize()
    return app


def _settings_schedule(count: int, *, period_s: float, overdue: int) -> dict[str, dict[str, Any]]:
    now, period = datetime.now(UTC), timedelta(seconds=period_s)
    entry = {"task": "benchmarks.work", "schedule": period, "kwargs": KWARGS}
    return {
        entry_name(number): {**entry, "args": (number,), "last_run_at": now - 2 * period if number < overdue else now}
        for number in range(count)
    }


def _from_environment() -> Celery:
    schedule = _settings_schedule(
        int(os.environ.get("BENCH_STATIC", "0")),
        period_s=float(os.environ.get("BENCH_PERIOD_S", "3600")),
        overdue=int(os.environ.get("BENCH_OVERDUE", "0")),
    )
    settings: dict[str, Any] = {"beat_schedule": schedule}
    if "BENCH_LOOP_S" in os.environ:
        settings["beat_max_loop_interval"] = float(os.environ["BENCH_LOOP_S"])
    if "BENCH_TIMETABLE" in os.environ:
        settings["tw_redis_url"] = os.environ["BENCH_TIMETABLE"]
    if "BENCH_FAIR_CAPACITY" in os.environ:
        settings |= {"tw_fair_queues": [QUEUE], "tw_fair_capacity": int(os.environ["BENCH_FAIR_CAPACITY"])}
    return make_app(os.environ["BENCH_URL"], **settings)


if "BENCH_URL" in os.environ:
    app = _from_environment()
