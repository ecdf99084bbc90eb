"""Starving events: what the leader finds starving, told to whoever watches Celery's events, as ``tw-task-starving``.

A thread of its own sends them, because a broker that is away may keep it for long. What does not go out is lost, and the log says so; the
signal and the statistics are not.
"""

import logging
from queue import Full, Queue
from threading import Thread
from typing import Any

from celery_tw.events import task_starving

logger = logging.getLogger(__name__)

EVENT = "tw-task-starving"
KEPT = 10_000


class StarvingEvents:
    """The events of one app, sent in the order in which they were found."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self._unsent: Queue[dict[str, Any]] = Queue(KEPT)
        self._thread: Thread | None = None

    def follow(self) -> None:
        """Send each starving task that this process finds."""
        task_starving.connect(self._take, weak=False, dispatch_uid=f"celery_tw.starving_events.{id(self.app)}")

    def _take(self, sender: Any = None, signal: Any = None, task_id: str = "", task: str = "", **facts: Any) -> None:
        try:
            self._unsent.put_nowait({"uuid": task_id, "name": task, **facts})
        except Full:
            logger.warning("%s[%s] is starving, of which no event is sent: %d wait to be sent already", task, task_id, KEPT)
            return
        if self._thread is None:
            self._thread = Thread(target=self._send_all, name="tw-starving", daemon=True)
            self._thread.start()

    def _send_all(self) -> None:
        while True:
            fields = self._unsent.get()
            try:
                with self.app.events.default_dispatcher() as dispatcher:
                    dispatcher.send(EVENT, **fields)
            except Exception as error:  # each transport has errors of its own
                logger.warning("%s[%s] is starving, of which no event could be sent: %s", fields["name"], fields["uuid"], error)
