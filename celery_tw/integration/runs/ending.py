"""Ending: what becomes of a run when Celery has passed on what its task has come to.

One that was lost is another's to end, and one whose process exits goes on elsewhere. A run may have ended before, in the step that
stored its result (see `execution`).
"""

import logging
from collections.abc import Callable
from typing import Any

from celery.exceptions import TaskRevokedError
from celery.states import REVOKED

from celery_tw.errors import StoreRefused, StoreUnavailable
from celery_tw.failpoints import failpoint
from celery_tw.integration.runs.last_call import LastCall
from celery_tw.runtime.run import Run, State
from celery_tw.stores.redis.runs.right import Right
from celery_tw.stores.redis.runs.runs import Runs
from celery_tw.stores.redis.runs.stored_result import StoredResult
from celery_tw.stores.redis.scripts import asked_twice

logger = logging.getLogger(__name__)

RETURN_DELAY_MS = 2000
"""A long run whose process was told to exit is returned so much later, for its parent may still say that it is to end."""


class Ending:
    """Ends the runs of one process; *reassign* lets a long one go on elsewhere."""

    def __init__(self, runs: Runs, *, reassign: Callable[..., object]) -> None:
        self.runs = runs
        self.reassign = reassign

    def end(self, task: Any, run: Run, state: str | None, retval: Any) -> None:
        """Do what is left to do for a run whose task has come to *state*; None when its process was told to exit."""
        if run.state is State.LOST:
            self._lay_to_rest(run)
        if run.state in (State.LOST, State.YIELDED):
            return
        if run.state is not State.DONE:
            self._end_open(task, run, state, retval)
        failpoint("R5")

    def _end_open(self, task: Any, run: Run, state: str | None, retval: Any) -> None:
        if state is None and run.long:
            self._return(task, run)
            return
        self._end_or_warn(task, run, str(run.state) if run.state in (State.CANCELLED, State.FAILED) else _verb(state, retval))

    def last_call(self, run: Run, result: StoredResult | None) -> LastCall:
        """Return the call that ends a run that is done, and stores its *result* in the same step, if there is one to be stored."""
        if result is None:
            return LastCall(lambda: self._finish(run, "done"), has_ended=lambda: self.runs.has_ended(run.mid))
        return LastCall(
            lambda: self.runs.conclude(run.token, result, mid=run.mid, task_id=run.task_id, guards=run.guards),
            has_ended=lambda: self.runs.keeps(result),
        )

    def _finish(self, run: Run, verb: str) -> bool:
        return self.runs.finish(Right.of_token(run.token), verb, mid=run.mid, task_id=run.task_id, guards=run.guards)[0]

    def _end_or_warn(self, task: Any, run: Run, verb: str) -> None:
        try:
            self._end(task, run, verb)
        except (StoreUnavailable, StoreRefused) as error:
            logger.warning("%s[%s] ended as %s, which was not put on record: %s", run.task, run.task_id, verb, error)

    def _end(self, task: Any, run: Run, verb: str) -> None:
        asked_twice(lambda: self._finish(run, verb))
        if verb == "retried" and self.runs.cancelled_since(run.task_id, int(run.token)):
            error = TaskRevokedError("cancelled")  # its chord knows; but RETRY was written after what the canceller wrote
            task.backend.store_result(run.task_id, error, REVOKED, request=task.request)

    def _return(self, task: Any, run: Run) -> None:
        """Let a long run whose process exits go on elsewhere."""
        try:
            (record,) = self.runs.under_way.read([run.mid]) or (None,)
            if record is None or record.envelope is None or record.token != run.token:
                asked_twice(lambda: self._finish(run, "free"))
            else:
                self.reassign(Right.of_token(run.token), "yielded", run.mid, run.task_id, record.envelope, delay_ms=RETURN_DELAY_MS)
        except (StoreUnavailable, StoreRefused) as error:
            logger.warning("%s[%s] is left to the scheduler to be started again: %s", task.name, run.task_id, error)

    def _lay_to_rest(self, run: Run) -> None:
        try:
            self.runs.signs.lay_to_rest(run.mid)
        except StoreUnavailable as error:
            logger.debug("%s[%s] has ended, which a replay of it learns later: %s", run.task, run.task_id, error)


def _verb(state: str | None, retval: Any) -> str:
    if state is None or (state == "REJECTED" and getattr(retval, "requeue", False)):
        return "free"
    return {"FAILURE": "failed", "RETRY": "retried", "REJECTED": "failed"}.get(state, "done")
