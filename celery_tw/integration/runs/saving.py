"""Saving: a long run keeps its state in Redis, and hears with each answer whether it may go on."""

import logging
from functools import partial

from celery_tw.clock import Clock
from celery_tw.errors import LeaseLost, StoreUnavailable
from celery_tw.runtime.checkpoint import Checkpoint
from celery_tw.runtime.run import Run
from celery_tw.settings import Settings
from celery_tw.stores.redis.runs.checkpoints import Checkpoints

logger = logging.getLogger(__name__)


class Saving:
    """Makes the checkpoints of the runs of one process; *processes* are the names under which a shutdown of its worker may be told."""

    def __init__(self, checkpoints: Checkpoints, settings: Settings, *, clock: Clock, processes: tuple[str, str]) -> None:
        self.checkpoints = checkpoints
        self.settings = settings
        self.clock = clock
        self.processes = processes

    def checkpoint(self, run: Run) -> Checkpoint:
        """Return the checkpoint of *run*."""
        return Checkpoint(
            load=partial(self.checkpoints.load, run.task_id),
            save=partial(self._save, run),
            clear=partial(self.checkpoints.clear, run.mid, run.token, task_id=run.task_id),
            max_bytes=self.settings.checkpoint_max_bytes,
        )

    def _save(self, run: Run, state: bytes) -> None:
        asked_ms = self.clock.boot_ms()
        save = partial(
            self.checkpoints.save,
            run.mid,
            run.token,
            task_id=run.task_id,
            state=state,
            kept_ms=self.settings.checkpoint_expires_ms,
            processes=self.processes,
        )
        try:
            status = save()
        except StoreUnavailable as error:
            run.lease.check()
            logger.warning("%s[%s]: its checkpoint was not saved, the one before stands: %s", run.task, run.task_id, error)
            return
        run.lease.tell(status)
        if status == "lost":
            raise LeaseLost("another process runs this task by now: its checkpoint was not saved")
        run.lease.renew(asked_ms)
        run.lease.check_at_a_boundary()
