"""Open runs: a run that an entry has begun counts as that entry's open fire until it has ended (``overlap``).

::

    FIRE ─▶ celery_tw.dags.submit, counted as any task ─▶ the run, counted under ``dag:<run id>`` ─▶ its end
                                                                  ▲
                                                                  └ the leader says so again at each look

SQL knows which runs have ended; Redis has a copy of that, because it is there that the leader decides about a slot. Whoever moves a run
says so at once, and the leader says it again every few seconds: a process that dies in between, one that speaks too late, or a Redis that
was away costs seconds. Without a leader a run is counted for ``tw_overlap_expires``; but without one there is no slot to decide about.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from celery_tw.core.dag_state import RUN_ENDED, RunState
from celery_tw.errors import CeleryTWError, ImproperlyConfigured
from celery_tw.integration import broker
from celery_tw.settings import Settings
from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.redis.open_fires import OpenFires

if TYPE_CHECKING:
    from celery_tw.stores.sql.sweeping import CountedRun

logger = logging.getLogger(__name__)

TIMEOUT_S = 0.8
MARK = "dag:"


class OpenRuns:
    """What one process says of runs that entries have begun; connects when first used."""

    def __init__(self, app: Any, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._open_fires: OpenFires | None = None

    def follow(self, entry: str, run_id: str, state: RunState) -> None:
        """Count the run *run_id* as a fire of *entry*, or no longer; when Redis is away the leader will."""
        if state in RUN_ENDED:
            self._say(entry, begun=[], ended=[marked(run_id)])
        else:
            self._say(entry, begun=[marked(run_id)], ended=[])

    def follow_all(self, runs: "Iterable[CountedRun]") -> None:
        """Count those of *runs* that have not ended, and the others no longer."""
        by_entry: defaultdict[str, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
        for run in runs:
            by_entry[run.entry][run.state in RUN_ENDED].append(marked(run.id))
        for entry, (begun, ended) in by_entry.items():
            self._say(entry, begun=begun, ended=ended)

    def _say(self, entry: str, *, begun: list[str], ended: list[str]) -> None:
        try:
            for each in begun:
                self._fires().begin(entry, each, kept_ms=self._settings.overlap_expires_ms)
            if ended:
                self._fires().end(entry, *ended)
        except (CeleryTWError, ImproperlyConfigured) as error:
            logger.warning("entry %s: its runs are not counted as they should be: %s", entry, error)

    def _fires(self) -> OpenFires:
        if self._open_fires is None:
            self._open_fires = OpenFires(broker.connect(self._app, timeout_s=TIMEOUT_S), Keys(self._settings.namespace))
        return self._open_fires

    def close(self) -> None:
        """Close the connections."""
        if self._open_fires is not None:
            self._open_fires.client.close()


def marked(run_id: str) -> str:
    """Return what a run counts under, among the ids of tasks."""
    return MARK + run_id


def run_marked(task_id: str) -> str | None:
    """Return the run that counts under *task_id*; None when that is a task."""
    return task_id[len(MARK) :] if task_id.startswith(MARK) else None
