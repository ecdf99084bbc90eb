"""The time wheel for Celery: schedules that fire on time, from one elected leader.

::

    from celery_tw import TimeWheel, cron

    tw = TimeWheel(app)
    tw.schedule("nightly-report", report.s(42), cron("0 2 * * *", tz="Europe/Berlin"))
"""

from celery_tw.core.misfire import Misfire
from celery_tw.errors import (
    CeleryTWError,
    InvalidEntry,
    InvalidSchedule,
    NamespaceTaken,
    StaleEpoch,
    StaticEntry,
    StoreRefused,
    StoreUnavailable,
    UnknownEntry,
)
from celery_tw.integration.schedules import cron, every, once, rrule
from celery_tw.integration.slots import slot
from celery_tw.integration.timewheel import TimeWheel

__version__ = "0.1.0"

__all__ = [
    "CeleryTWError",
    "InvalidEntry",
    "InvalidSchedule",
    "Misfire",
    "NamespaceTaken",
    "StaleEpoch",
    "StaticEntry",
    "StoreRefused",
    "StoreUnavailable",
    "TimeWheel",
    "UnknownEntry",
    "cron",
    "every",
    "once",
    "rrule",
    "slot",
]
