"""Beat: ``celery -A proj beat -S timewheel``.

Celery's beat is a loop around ``tick``; here the work is done by a node's own threads, and ``tick`` only looks after them. So beat's signal
handlers, which run in the main thread, never cut a batch in half, and ``inspect ping`` answers as long as the threads make progress: a
thread that died or is stuck ends the process, for its supervisor to start anew.

Celery makes a first, *lazy* scheduler only to print its banner: it starts and connects nothing but the banner's one look. ``close`` may be
called twice, and by a signal handler on top of ``tick``.

What cannot work ends the process with one line and exit code 1. Celery prints a traceback for any error but ``SystemExit``, and swallows
that one when ``tick`` raises it, so ``close``, the last thing that beat calls, raises it again.
"""

import logging
from typing import Any

from celery.beat import Scheduler

from celery_tw.errors import CeleryTWError, ImproperlyConfigured
from celery_tw.integration.banner import banner
from celery_tw.integration.connected import Connected
from celery_tw.integration.dags.parts import has_database, sqlalchemy_or_refuse
from celery_tw.integration.node import Node
from celery_tw.integration.timewheel import TimeWheel

logger = logging.getLogger(__name__)

LOOK_S = 0.5


class TimeWheelScheduler(Scheduler):
    """The time wheel as a scheduler of Celery's beat."""

    max_interval = LOOK_S
    lock_key = None  # RedBeat, where it is imported, asks every scheduler for it, and ends with an error without

    def __init__(self, app: Any, *args: Any, lazy: bool = False, **kwargs: Any) -> None:
        self._node: Node | None = None
        self._failure: SystemExit | None = None
        TimeWheel(app)
        try:
            Connected(app)
            if has_database(app):
                sqlalchemy_or_refuse()
        except ImproperlyConfigured as error:
            raise SystemExit(f"celery-tw: {error}") from error
        super().__init__(app, *args, lazy=True, **kwargs)

    @property
    def info(self) -> str:
        """Return the banner's lines."""
        return banner(self.app)

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Start the node at the first call, then see that its threads live; return seconds until the next look."""
        if self._node is None:
            self._node = Node(self.app)
            self._node.start()
        try:
            self._node.check()
        except (CeleryTWError, ImproperlyConfigured) as error:
            logger.critical("beat ends: %s", error)
            self._failure = SystemExit(1)
            raise self._failure from error
        return min(float(self.max_interval), LOOK_S)

    def sync(self) -> None:
        """Do nothing: every state is in Redis already."""

    def close(self) -> None:
        """Stop the threads and hand the lead over; after a failure, end the process with it."""
        if self._node is not None:
            self._node.close()
        super().close()
        if self._failure is not None:
            raise self._failure
