"""Settings check: a worker whose ``tw_*`` settings cannot be used says so when it starts, and not when a task first needs them.

A wrong setting keeps it from starting, as it does beat. One that is only missing (a Redis, or a name for an app that has none) does not:
tasks that ask nothing of the time wheel run without.
"""

import logging
from typing import Any

from celery import bootsteps

from celery_tw.errors import ImproperlyConfigured
from celery_tw.integration.broker import redis_or_refuse
from celery_tw.settings import Settings

logger = logging.getLogger(__name__)

STAND_IN = "unnamed"


class CheckSettings(bootsteps.Step):
    """Keeps a worker from starting that has wrong settings: SystemExit, with what is wrong in its log as well."""

    def create(self, worker: Any) -> None:
        conf, name = worker.app.conf, worker.app.main
        try:
            Settings.read(conf, app_name=STAND_IN)
        except ImproperlyConfigured as error:
            logger.critical("%s", error)
            raise SystemExit(f"celery-tw: {error}") from error
        try:
            Settings.read(conf, app_name=name)
            redis_or_refuse(worker.app)
        except ImproperlyConfigured as error:
            logger.error("guarded tasks will fail, and tasks with an ETA wait in workers, as without the time wheel: %s", error)
