"""The project under test: a small Celery app in a module of its own, as any project has one.

It is configured by a JSON file that the variable ``SHOP_SETTINGS`` names: ``conf`` goes to the app's configuration, ``schedule`` becomes
``beat_schedule``. Its tasks write one line each to the ledger.

A schedule is a number of seconds, or ``{"every": …, "anchor_ms": …}``, ``{"cron": …}``, ``{"crontab": {…}}``.
"""

import ctypes
import json
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from celery import Celery
from celery.schedules import crontab

from celery_tw import cron, every
from celery_tw.testing.ledger import Ledger, What
from celery_tw.testing.recording import line_of

PR_SET_PDEATHSIG = 1
SETTINGS = json.loads(Path(os.environ["SHOP_SETTINGS"]).read_text())


def end_with_the_test_run() -> None:
    """Let the kernel kill this process when the test run dies, where it can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def schedule_of(given: Any) -> Any:
    """Return the schedule that the settings file means."""
    if not isinstance(given, dict):
        return given
    if "cron" in given:
        return cron(given["cron"], tz=given.get("tz"))
    if "crontab" in given:
        return crontab(**given["crontab"])
    anchor_ms = given.get("anchor_ms")
    return every(given["every"], anchor=None if anchor_ms is None else datetime.fromtimestamp(anchor_ms / 1000, UTC))


def make_app(name: str | None = "shop") -> Celery:
    app = Celery(name)
    app.conf.update(SETTINGS["conf"])
    app.conf.beat_schedule = {
        entry: {**fields, "schedule": schedule_of(fields["schedule"])} for entry, fields in SETTINGS["schedule"].items()
    }
    return app


end_with_the_test_run()
app = make_app()


def note(request: Any, *, value: Any = None) -> None:
    """Append to the ledger that a task runs now."""
    Ledger(os.environ["SHOP_LEDGER"]).append(line_of(What.STARTED, request, value=value))


@app.task(bind=True, ignore_result=True)
def record(self: Any, value: Any = None) -> None:
    note(self.request, value=value)


@app.task(bind=True)
def add(self: Any, left: int, right: int = 0) -> int:
    note(self.request, value=left + right)
    return left + right


@app.task(bind=True)
def total(self: Any, numbers: list[int]) -> int:
    note(self.request, value=sum(numbers))
    return sum(numbers)
