"""Long task: a task that takes minutes or hours, and goes on from its last checkpoint wherever its worker dies.

Its message is kept in Redis and acknowledged when it starts, so neither a visibility time-out nor a consumer time-out of the broker brings
it a second time. The leader starts it again when its process falls silent (``scheduler/reaper.py``), its worker's main process when its
child dies. Its body tells how far it is: with `iterate`, or by hand with `heartbeat`.
"""

import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from celery_tw.integration.runs.runner import runner_of
from celery_tw.integration.runs.sends import long_queue
from celery_tw.integration.runs.task import Task
from celery_tw.runtime.checkpoint import Checkpoint, MemoryCheckpoint
from celery_tw.runtime.lease import Lease, LocalLease
from celery_tw.runtime.run import Run
from celery_tw.settings import Settings

PROGRESS = "PROGRESS"

T = TypeVar("T")


class LongTask(Task):
    """The base of long tasks: ``@app.task(base=celery_tw.LongTask, bind=True)``."""

    abstract = True
    long = True

    @property
    def lease(self) -> Lease | LocalLease:
        """The lease of the present run: ``token`` fences the outside world, ``check()`` raises when the run is to stop."""
        run = self._run
        return LocalLease() if run is None else run.lease

    @property
    def checkpoint(self) -> Checkpoint:
        """The state from which the present run goes on: ``load(default)``, ``save(state)``, ``clear()``."""
        here = vars(self.request)
        if "tw_checkpoint" not in here:
            self.request.tw_checkpoint = MemoryCheckpoint() if self._run is None else runner_of(self.app).saving.checkpoint(self._run)
        checkpoint: Checkpoint = self.request.tw_checkpoint
        return checkpoint

    @property
    def _run(self) -> Run | None:
        run: Run | None = vars(self.request).get("tw_run")
        return run

    def heartbeat(self, state: Any) -> None:
        """Save *state*, renew the lease, report the progress, and check whether to go on.

        Raises `InvalidCheckpoint`, `LeaseLost` (another process has the run; nothing was saved), and, after saving, `TaskCancelled` or
        `TaskYielded`, which the body lets pass.
        """
        self.checkpoint.save(state)
        self._report(state)

    def iterate(self, items: Iterable[T], state: Any, *, every: int | None = None, seconds: float | None = None) -> Iterator[T]:
        """Yield each of *items*; after the body of a step see whether to save *state*, as `heartbeat` does.

        It saves after *every* steps, after *seconds* (``tw_checkpoint_interval`` when neither is given), when the run is to stop, and at
        the end. It skips nothing: begin *items* where the state says. A step whose body raises is not in the state.
        """
        if seconds is None and every is None:
            seconds = self._settings.checkpoint_interval_ms / 1000
        saved_s, steps = time.monotonic(), 0
        for item in items:
            yield item
            steps += 1
            now_s = time.monotonic()
            if (every and steps >= every) or (seconds is not None and now_s - saved_s >= seconds) or self._is_to_stop():
                self.heartbeat(state)
                saved_s, steps = now_s, 0
        if steps:
            self.heartbeat(state)

    def _is_to_stop(self) -> bool:
        run = self._run
        return run is not None and (run.lease.cancelled is not None or run.lease.draining or run.lease.lost)

    def _report(self, state: Any) -> None:
        """Show *state* as the result's info and to whoever watches the events."""
        if self._run is None:
            return
        if not self.ignore_result and self.request.id:
            self.update_state(state=PROGRESS, meta=state)
        if self.app.conf.worker_send_task_events:
            self.send_event("tw-progress", state=state)

    @property
    def _settings(self) -> Settings:
        return Settings(namespace="") if self._run is None else runner_of(self.app).settings

    def apply_async(self, args: Any = None, kwargs: Any = None, task_id: str | None = None, **options: Any) -> Any:
        """Send the task, to ``tw_long_queue`` unless its call, its class or a route names a queue."""
        return super().apply_async(args, kwargs, task_id, **{**long_queue(self, args, kwargs, options), **options})
