"""The time wheel for Celery: schedules that fire on time, from one elected leader.

::

    from celery_tw import TimeWheel, cron

    tw = TimeWheel(app)
    tw.schedule("nightly-report", report.s(42), cron("0 2 * * *", tz="Europe/Berlin"))
"""

from celery_tw.core.misfire import Misfire
from celery_tw.core.retry import Retry
from celery_tw.errors import (
    CeleryTWError,
    DatabaseUnavailable,
    DependencyCycle,
    InvalidCheckpoint,
    InvalidDag,
    InvalidEntry,
    InvalidLane,
    InvalidSchedule,
    LeaderMissing,
    LeaseLost,
    LockBusy,
    MalformedMessage,
    NamespaceTaken,
    RedeliveredTooOften,
    ResultNotKept,
    StaleEpoch,
    StaticEntry,
    StoreRefused,
    StoreUnavailable,
    TaskCancelled,
    TaskYielded,
    UnknownDagRun,
    UnknownDeadLetter,
    UnknownEntry,
    UnknownMessage,
    UnknownNode,
)
from celery_tw.integration.dags.dag import DAG
from celery_tw.integration.runs.long_task import LongTask
from celery_tw.integration.runs.slots import slot
from celery_tw.integration.runs.task import Task
from celery_tw.integration.schedules.written import cron, every, once, rrule
from celery_tw.integration.timewheel import TimeWheel

__version__ = "0.1.0"

__all__ = [
    "DAG",
    "CeleryTWError",
    "DatabaseUnavailable",
    "DependencyCycle",
    "InvalidCheckpoint",
    "InvalidDag",
    "InvalidEntry",
    "InvalidLane",
    "InvalidSchedule",
    "LeaderMissing",
    "LeaseLost",
    "LockBusy",
    "LongTask",
    "MalformedMessage",
    "Misfire",
    "NamespaceTaken",
    "RedeliveredTooOften",
    "ResultNotKept",
    "Retry",
    "StaleEpoch",
    "StaticEntry",
    "StoreRefused",
    "StoreUnavailable",
    "Task",
    "TaskCancelled",
    "TaskYielded",
    "TimeWheel",
    "UnknownDagRun",
    "UnknownDeadLetter",
    "UnknownEntry",
    "UnknownMessage",
    "UnknownNode",
    "cron",
    "every",
    "once",
    "rrule",
    "slot",
]
