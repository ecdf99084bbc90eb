"""Node: one scheduler process: an elector, an engine, a listener and an outbox, each in its own thread.

The elector renews the lease in a thread of its own, so that a slow broker or a long batch never costs it. The listener waits for news and
wakes the others. They all loop over step functions that know nothing of threads.
"""

import logging
import os
import socket
import threading
from typing import Any
from uuid import uuid4

from celery_tw.core.term import Term
from celery_tw.errors import CeleryTWError
from celery_tw.integration.connected import Connected
from celery_tw.integration.duties import Duties
from celery_tw.integration.lanes.starving_events import StarvingEvents
from celery_tw.integration.safeguards import check_eviction, check_namespace
from celery_tw.leadership.elector import Elector
from celery_tw.scheduler.loops import Loop
from celery_tw.scheduler.watchdog import Watchdog
from celery_tw.stores.redis.news import NewsReader

logger = logging.getLogger(__name__)

LISTEN_MS = 500
GATHER_MS = 20
"""After news the listener looks away for so long: a thousand tasks stored in a second wake the leader fifty times, not a thousand."""

PROMPT = ("elect", "listen", "work")
AT_LEISURE = "stop"
"""The loop that may wait for the broker as long as it likes."""

JOINED = ("work", "publish", "measure", "elect")
JOIN_S = 1.0
STUCK_LEASES = 3
STUCK_PUBLISHING_MS = 60_000
"""Publishing may take its time: connecting alone takes seconds for each of several brokers that are away."""


class Node:
    """A scheduler that stands by, leads when elected, and can be stopped at any moment."""

    def __init__(self, app: Any) -> None:
        parts = self.parts = Connected(app)
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:6]}"
        self._started_boot_ms = parts.clock.boot_ms()
        self._checked = False
        self._listening = False
        self._closing = threading.Lock()
        self.elector = Elector(
            parts.election,
            clock=parts.clock,
            redis_time=parts.redis_time,
            owner=self.owner,
            lease_ms=parts.settings.leader_lease_ms,
            max_skew_ms=parts.settings.max_clock_skew_ms,
            describe=self._describe,
        )
        self.duties = Duties(parts, self.elector, loop=lambda name: self._loops[name], started_ms=self.started_ms)
        self.engine = self.duties.engine
        self._news = NewsReader(parts.client, parts.keys)
        steps = {
            "elect": self._elect_step,
            "listen": self._listen_step,
            "work": self._work_step,
            "publish": self.duties.outbox.step,
            "measure": self.duties.measuring.step,
            "reap": self._reap_step,
            "stop": self._stop_step,
        }
        self._loops = {name: Loop(f"tw-{name}", step) for name, step in steps.items()} | self._dags()
        prompt = tuple(self._loops[name] for name in PROMPT)
        patient = tuple(loop for name, loop in self._loops.items() if name not in (*PROMPT, AT_LEISURE))
        boot_ms, limit_ms = parts.clock.boot_ms(), STUCK_LEASES * parts.settings.leader_lease_ms + LISTEN_MS
        self._watchdogs = (
            Watchdog(prompt, limit_ms=limit_ms, boot_ms=boot_ms),
            Watchdog(patient, limit_ms=max(limit_ms, STUCK_PUBLISHING_MS), boot_ms=boot_ms),
        )

    def _dags(self) -> dict[str, Loop]:
        """Return the loop that looks after DAGs, where there can be any."""
        if self.parts.settings.database_url is None:
            return {}
        from celery_tw.integration.dags.looking_after import sweeper_of  # noqa: PLC0415 - only who uses DAGs has SQLAlchemy

        loop = Loop("tw-dags", lambda: sweeper.step())
        sweeper = sweeper_of(self.parts.app, self.elector, go_on=loop.goes_on)
        return {"dags": loop}

    def started_ms(self) -> int:
        """Return when this process started, in Redis time."""
        return self.parts.redis_time.now_ms() - (self.parts.clock.boot_ms() - self._started_boot_ms)

    def _describe(self) -> dict[str, Any]:
        return {"host": socket.gethostname(), "pid": os.getpid(), "started_ms": self.started_ms()}

    def start(self) -> None:
        """Start the threads; connects to nothing in the calling thread."""
        StarvingEvents(self.parts.app).follow()
        for loop in self._loops.values():
            loop.start()

    def check(self) -> None:
        """Raise what ended a thread; raise `CeleryTWError` when one has made no progress for too long."""
        for loop in self._loops.values():
            if loop.error is not None:
                raise loop.error
        for watchdog in self._watchdogs:
            stuck = watchdog.stuck(self.parts.clock.boot_ms())
            if stuck is not None:
                raise CeleryTWError(f"{stuck.name} is stuck: it has made no progress for {watchdog.limit_ms / 1000:g} s")

    def close(self) -> None:
        """Stop the threads and resign; may be called twice, and on top of any other call."""
        if not self._closing.acquire(blocking=False):
            return
        for loop in self._loops.values():
            loop.stop()
        for name in JOINED:
            self._loops[name].join(JOIN_S)
        try:
            self.elector.leave()
        except CeleryTWError as error:
            logger.warning("the lease runs out by itself: %s", error)
        if not self._loops["publish"].runs():
            self.duties.publisher.close()
        if not self._loops["measure"].runs():
            self.duties.measuring.lengths.close()

    # Steps

    def _elect_step(self) -> int:
        if not self._checked:
            check_eviction(self.parts.client, self.parts.settings)
            check_namespace(self.parts.app, self.parts.election, schedules=True)
            self._checked = True
        before: Term | None = self.elector.term
        wait_ms = self.elector.step()
        if (self.elector.term is None) != (before is None):
            self._loops["work"].wake()
        return wait_ms

    def _listen_step(self) -> int:
        if not self._listening:
            self._news.catch_up()
            self._listening = True
            self.engine.hear([], True)
        heard, missed = self._news.read(block_ms=LISTEN_MS)
        if heard:
            self.engine.hear(heard, missed)
            self._loops["work"].wake()
            if any(news.kind == "resigned" for news in heard):
                self._loops["elect"].wake()
        return GATHER_MS if heard else 0

    def _work_step(self) -> int:
        wait_ms = self.engine.step()
        if self.duties.claims:
            self._loops["publish"].wake()
        return wait_ms

    def _reap_step(self) -> int:
        return min(self.duties.reaper.step(), self.duties.starving.step())

    def _stop_step(self) -> int:
        return min(self.duties.superseding.step(), self.duties.terminating.step(), self.duties.retention.step())
