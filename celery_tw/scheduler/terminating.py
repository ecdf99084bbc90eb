"""Terminating: ends runs that were asked to stop and have not done so in time (``terminate_after``, ``cancel_grace``).

The leader tells all workers; the main process of the one that has the run ends its child, which then has `KILL_AFTER_S` to go before it is
killed (``runs/run_request.py``). A run that is still there is named again, `TRIES` times; then no worker can end it: its pool has no
processes to end, or no worker hears. The record of a run that has ended by itself is gone, and nothing is done.
"""

import logging
from collections import Counter
from collections.abc import Callable

from celery_tw.clock import RedisTime
from celery_tw.leadership.elector import Elector
from celery_tw.stores.redis.runs.runs import Runs
from celery_tw.stores.redis.terminations import Terminations

logger = logging.getLogger(__name__)

LOOK_MS = 500
STAND_BY_MS = 1000
AGAIN_MS = 5000
TRIES = 3
AT_A_TIME = 100


class Terminating:
    """Looks for runs whose time has come while *elector* leads; *terminate* tells the workers to end a task."""

    def __init__(
        self,
        *,
        terminations: Terminations,
        runs: Runs,
        elector: Elector,
        redis_time: RedisTime,
        terminate: Callable[[str], None],
    ) -> None:
        self.terminations = terminations
        self.runs = runs
        self.elector = elector
        self.redis_time = redis_time
        self.terminate = terminate
        self._tries: Counter[str] = Counter()

    def step(self) -> int:
        """Look once; return in how many ms to call again."""
        term = self.elector.trusted_term()
        if term is None:
            self._tries.clear()
            return STAND_BY_MS
        due = self.terminations.due(self.redis_time.now_ms(), limit=AT_A_TIME)
        if due:
            self._end(due)
        return LOOK_MS

    def _end(self, mids: list[str]) -> None:
        records = {record.mid: record for record in self.runs.under_way.read(mids)}
        for mid in mids:
            record = records.get(mid)
            if record is None or record.cancel is None:
                self._forget(mid)
            elif self._tries[mid] >= TRIES:
                logger.error("%s[%s] was cancelled and could not be ended: no worker has a process for it", record.task, record.task_id)
                self._forget(mid)
            else:
                self._tries[mid] += 1
                self.terminations.plan(mid, after_ms=AGAIN_MS)
                logger.warning("%s[%s] has not stopped in time and is ended: %s", record.task, record.task_id, record.cancel)
                self.terminate(record.task_id)

    def _forget(self, mid: str) -> None:
        self.terminations.forget([mid])
        self._tries.pop(mid, None)
