"""Settings check: a worker whose ``tw_*`` settings cannot be used says so when it starts, and not when a task first needs them.

Wrong settings keep it from starting, as they do beat. Settings that are right but name no Redis do not: tasks that ask nothing of the time
wheel run without one.
"""

import logging
from typing import Any

from celery import bootsteps

from celery_tw.errors import ImproperlyConfigured
from celery_tw.integration.broker import redis_or_refuse
from celery_tw.settings import Settings

logger = logging.getLogger(__name__)


class CheckSettings(bootsteps.Step):
    """Keeps a worker from starting that has wrong settings; raises `ImproperlyConfigured`."""

    def create(self, worker: Any) -> None:
        Settings.read(worker.app.conf, app_name=worker.app.main)
        try:
            redis_or_refuse(worker.app)
        except ImproperlyConfigured as error:
            logger.error("guarded tasks and deferred sends will fail: %s", error)
