"""Heartbeat: one thread in each process that executes tasks says that all its runs are alive, in one call.

The thread is made when the first run begins, so after a fork: threads do not survive one. Three rhythms: each `interval` the counters move
(the leader judges by them), each `extend_interval` the leases and locks are extended, and each `LOOK_MS`, while a long run is under
way, it looks whether one is to stop. What it hears it tells the lease of the run, which the body asks.

A living thread shows a living process, not progress. C code that holds the GIL for longer than the time-out looks dead.
"""

import logging
import threading

from celery_tw.clock import Clock
from celery_tw.errors import CeleryTWError
from celery_tw.runtime.run import Run
from celery_tw.stores.redis.runs.runs import Runs

logger = logging.getLogger(__name__)

LOOK_MS = 500


class Heartbeat:
    """Beats for the runs of this process; *processes* are the names under which a shutdown of its worker may be told."""

    def __init__(self, runs: Runs, *, clock: Clock, interval_ms: int, extend_interval_ms: int, processes: tuple[str, str]) -> None:
        self._runs = runs
        self._clock = clock
        self._interval_ms = interval_ms
        self._extend_interval_ms = extend_interval_ms
        self._processes = processes
        self._live: dict[str, Run] = {}
        self._long = 0
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._beat_at_ms = self._extend_at_ms = 0
        self._away = False

    def add(self, run: Run) -> None:
        """Beat for *run* from now on."""
        self._live[run.token] = run
        if run.long:
            self._long += 1
            self._wake.set()
        if self._thread is None:
            self._start()

    def remove(self, run: Run) -> None:
        """Beat for *run* no longer."""
        if self._live.pop(run.token, None) is not None and run.long:
            self._long -= 1

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                now_ms = self._clock.boot_ms()
                self._beat_at_ms, self._extend_at_ms = now_ms + self._interval_ms, now_ms + self._extend_interval_ms
                self._thread = threading.Thread(target=self._loop, name="tw-heartbeat", daemon=True)
                self._thread.start()

    def _loop(self) -> None:
        while True:
            until_ms = min(self._beat_at_ms, self._extend_at_ms) - self._clock.boot_ms()
            self._wake.wait(max(0, min(until_ms, LOOK_MS) if self._long else until_ms) / 1000)
            self._wake.clear()
            try:
                self.step()
                self._away = False
            except CeleryTWError as error:
                if not self._away:
                    logger.warning("no heartbeat for %d runs until Redis is back: %s", len(self._live), error)
                self._away = True
            except Exception:  # whatever it is, the other runs and the next beat are not to suffer from it
                logger.exception("the heartbeat failed and goes on")

    def step(self) -> None:
        """Beat, extend or look, whatever is due."""
        now_ms, runs = self._clock.boot_ms(), list(self._live.values())
        extend = now_ms >= self._extend_at_ms
        if extend or now_ms >= self._beat_at_ms:
            self._beat_at_ms = now_ms + self._interval_ms
            if extend:
                self._extend_at_ms = now_ms + self._extend_interval_ms
            if runs:
                self._beat(runs, now_ms, extend=extend)
        elif long := [run for run in runs if run.long]:
            found = self._runs.signs.flags([(run.mid, run.token) for run in long], processes=self._processes)
            for run, status in zip(long, found, strict=True):
                run.lease.tell(status)

    def _beat(self, runs: list[Run], now_ms: int, *, extend: bool) -> None:
        beating = [(run.mid, run.token, run.task_id, run.guards) for run in runs]
        for run, status in zip(runs, self._runs.signs.beat(beating, extend=extend, processes=self._processes), strict=True):
            run.lease.tell(status)
            if extend and status != "lost":
                run.lease.renew(now_ms)
