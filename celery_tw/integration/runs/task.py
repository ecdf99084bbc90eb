"""Task: a Celery task with a run on record: one runner at a time, its completion recorded once, and the guards that its options name.

It is acknowledged late and rejected when its process is lost, so the broker brings it again and the record tells what is left to do. Called
directly, or eagerly, it is a plain Celery task: no guard, no Redis.
"""

from functools import cached_property
from typing import Any, NoReturn

import celery
from celery import signals

from celery_tw.core.retry import Retry
from celery_tw.integration.runs import draining
from celery_tw.integration.runs.guarding import Guarding, read_guarding
from celery_tw.integration.runs.retrying import attempt, policy_of
from celery_tw.integration.runs.runner import runner_of
from celery_tw.integration.runs.sends import claim_unique, give_back_unique, write_down_retry
from celery_tw.integration.runs.snoozing import snoozed
from celery_tw.integration.timewheel import TimeWheel


class Task(celery.Task):
    """The base of guarded tasks: ``@app.task(base=celery_tw.Task, lock="import:{account}")``; see `guarding` for the options."""

    abstract = True
    acks_late = True
    reject_on_worker_lost = True
    Request = "celery_tw.integration.runs.run_request:RunRequest"

    lock: str | None = None
    lock_busy: str = "wait"
    max_concurrency: int | None = None
    concurrency_key: str | None = None
    ordering_key: str | None = None
    idempotency_key: str | None = None
    unique: bool | str | None = None
    cancel_grace: float | None = None
    tw_retry: Retry | None = None

    long = False
    tw_guarded = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Keep the option ``retry`` apart from the method of that name, which it would hide."""
        super().__init_subclass__(**kwargs)
        option = vars(cls).get("retry")
        if option is not None and not callable(option):
            cls.tw_retry, cls.retry = option, _method_before(cls)

    @classmethod
    def on_bound(cls, app: Any) -> None:
        """Give the app a time wheel, which marks what it sends, and check the options; raises ImproperlyConfigured."""
        TimeWheel(app)
        draining.install(app)
        task = app._tasks.get(cls.name)
        if task is not None:
            _ = task.guarding, policy_of(task)

    @cached_property
    def guarding(self) -> Guarding:
        """The guards that the options ask for."""
        return read_guarding(self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task: guarded in a worker, plainly anywhere else."""
        request = self.request
        if request.called_directly or "tw_run" in vars(request):
            return super().__call__(*args, **kwargs)
        if request.is_eager:
            return self.tw_attempt(*args, **kwargs)
        return runner_of(self.app).call(self, args, kwargs)

    def tw_attempt(self, *args: Any, **kwargs: Any) -> Any:
        """Run the body; what it fails with may become a retry."""
        return attempt(self, args, kwargs)

    def tw_body(self, *args: Any, **kwargs: Any) -> Any:
        """Run what the guards are held for: the task's ``run``, or the ``__call__`` of the class that a pattern has guarded."""
        return self.run(*args, **kwargs)

    def snooze(self, seconds: float) -> NoReturn:
        """Let the task begin again in *seconds*, as the same attempt; raises Celery's `Retry`, which the body lets pass."""
        raise snoozed(self, seconds)

    def apply_async(self, args: Any = None, kwargs: Any = None, task_id: str | None = None, **options: Any) -> Any:
        """Send the task; see `celery.Task.apply_async`. A unique task that waits or runs already is not sent: its result is returned."""
        if not write_down_retry(self, args, kwargs, task_id, options):
            return self.AsyncResult(task_id)
        key = None if self.app.conf.task_always_eager else self.guarding.unique_key(tuple(args or ()), dict(kwargs or {}))
        if key is None:
            return super().apply_async(args, kwargs, task_id, **options)
        task_id = task_id or celery.utils.uuid()
        holder = claim_unique(self, key, task_id, part_of_canvas=any(options.get(name) for name in ("group_id", "chord", "chain")))
        if holder != task_id:
            return self.AsyncResult(holder)
        try:
            return super().apply_async(args, kwargs, task_id, **options)
        except BaseException:
            give_back_unique(self, key, task_id)
            raise


def _method_before(task_class: type[celery.Task]) -> Any:
    """Return the method ``retry`` that an option of that name hides in *task_class*."""
    found = (vars(each).get("retry") for each in task_class.__mro__)
    return next(method for method in found if callable(method))


@signals.task_postrun.connect(weak=False, dispatch_uid="celery_tw.runs")
def _end_of_run(sender: Any = None, task: Any = None, retval: Any = None, state: str | None = None, **_: Any) -> None:
    run = vars(task.request).get("tw_run") if isinstance(task, Task) else None
    if run is not None:
        runner_of(task.app).end(task, run, state, retval)


@signals.task_revoked.connect(weak=False, dispatch_uid="celery_tw.runs")
def _revoked(sender: Any = None, request: Any = None, **_: Any) -> None:
    """End the run of a task that is revoked, terminated or expired, so that nobody waits for it."""
    if isinstance(sender, Task) and "tw_run" not in vars(request):
        from celery_tw.integration.runs.run_request import end_run  # noqa: PLC0415 - it takes the worker with it, which a client has no need of

        end_run(sender, request, "cancelled")
