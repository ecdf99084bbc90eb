"""Lost processes: a pool process that dies is noticed within half a second.

Celery's pool hears of a death by the closing of a pipe and asks at once whether the process has exited. A process closes its files a moment
before that can be told, so on a busy machine the answer is often no, and the next question comes from a timer of five seconds. Until then
the task counts as one that runs. So the worker asks more often; the answer costs a system call for each process of the pool.
"""

from typing import Any

from celery import bootsteps

EACH_S = 0.5


class NoticeLostProcesses(bootsteps.StartStopStep):
    """Lets a worker on an event loop look after the processes of its pool every `EACH_S`; a pool without processes does nothing then."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._timer: Any = None

    def register_with_event_loop(self, worker: Any, hub: Any) -> None:
        """Begin to look; after a lost connection to the broker anew."""
        if self._timer is not None:
            self._timer.cancel()
        maintain_pool = getattr(worker.pool, "maintain_pool", None)
        if maintain_pool is not None:
            self._timer = hub.call_repeatedly(EACH_S, maintain_pool)
