"""Draining: a worker that shuts down warmly says so in Redis, where the heartbeat of its long tasks hears it, and they save and yield.

The signal comes while Celery handles another signal, on top of whatever the main thread was doing, so a thread of its own does the call.
"""

import logging
from threading import Thread
from typing import Any

from celery.signals import worker_shutting_down

from celery_tw.errors import CeleryTWError
from celery_tw.integration.runs.runner import runner_of

logger = logging.getLogger(__name__)


def install(app: Any) -> None:
    """Let the long tasks of workers of *app* hear of a warm shutdown."""

    def tell(how: str = "", **_: Any) -> None:
        if how == "Warm":
            Thread(target=_drain, args=(app,), name="tw-drain", daemon=True).start()

    worker_shutting_down.connect(tell, weak=False, dispatch_uid=f"celery_tw.draining:{app.main}")


def _drain(app: Any) -> None:
    runner = runner_of(app)
    try:
        runner.runs.signs.drain(runner.process)
    except CeleryTWError as error:
        logger.warning("long tasks are not told that the worker shuts down: %s", error)
