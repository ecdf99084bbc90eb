"""Execution: runs the body of a task, and puts on record what it has come to before anybody else hears of it.

::

    body ─▶ RAN ─▶ (Celery: chain, callbacks, result) ─▶ FINISH
      │
      └ when no message follows:
        ├▶ FINISH, if the result is ignored
        └▶ CONCLUDE, if it is at hand: the script stores it and ends the run (see `results_at_hand`)

Whose run it is by then is decided by Redis, by the token. What a process makes of a run that it has lost is dropped: a result, a retry, a
failure and a cancellation alike. The message goes back to the broker, for whoever has the run now.
"""

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from celery.app.trace import task_has_custom
from celery.exceptions import Ignore, Reject, Retry

from celery_tw import events
from celery_tw.core.node_id import NodeId
from celery_tw.errors import StoreUnavailable, TaskCancelled, TaskYielded
from celery_tw.failpoints import failpoint
from celery_tw.integration.runs.ending import Ending
from celery_tw.integration.runs.kept_results import ignores_result, keep_from_storing
from celery_tw.integration.runs.last_call import LastCall
from celery_tw.integration.runs.outcomes import Retries, Returned, Unshown
from celery_tw.integration.runs.postponed import Postponed
from celery_tw.integration.runs.results_at_hand import ResultsAtHand
from celery_tw.integration.runs.revoking import revoke
from celery_tw.runtime.run import Run, State
from celery_tw.stores.redis.runs.runs import Runs

logger = logging.getLogger(__name__)

RETRY_S = 0.2


class Execution:
    """Runs the bodies of one process's runs."""

    def __init__(self, runs: Runs, ending: Ending, results: ResultsAtHand) -> None:
        self.runs = runs
        self.ending = ending
        self.results = results

    def run(self, task: Any, run: Run, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return what the body returns, once that is on record; raise what it raises, if the run is still this process's."""
        return self._conclude(task, run, self._body(task, run, args, kwargs))

    def write_down_retry(self, task: Any, run: Run, retry: Retries) -> bool:
        """Put on record that the body asks for *retry*, which is about to be sent; return False when the run is another's by now."""
        outcome = retry.write()
        if outcome is None:
            logger.warning("%s[%s]: its retry is no JSON, or too large, and was not put on record", task.name, run.task_id)
            return True
        try:
            held = self._until_lost(run, partial(self.runs.ran, run.mid, run.token, outcome))
        except Reject:
            held = False
        if not held:
            run.state = State.LOST
        return held

    def _body(self, task: Any, run: Run, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            return task.tw_attempt(*args, **kwargs)
        except TaskCancelled as cancelled:
            raise self._cancelled(task, run, cancelled) from None
        except TaskYielded:
            run.move(State.YIELDED)
            raise Postponed(token=run.token) from None
        except (Ignore, Reject, Retry):
            if run.state is State.LOST:
                raise self._zombie(run) from None
            raise
        except Exception:
            self._own_or_give_back(run)
            raise

    def _cancelled(self, task: Any, run: Run, cancelled: TaskCancelled) -> Exception:
        self._own_or_give_back(run)
        run.move(State.CANCELLED)
        revoke(task, cancelled.reason)
        events.task_cancelled.send(sender=task, task=task.name, task_id=run.task_id, reason=cancelled.reason)
        logger.info("%s[%s] was cancelled: %s", task.name, run.task_id, cancelled.reason)
        return Ignore("cancelled")

    def _own_or_give_back(self, run: Run) -> None:
        """Return when the run is still ours; else drop what has come of it, for its successor's counts."""
        if not self._until_lost(run, partial(self.runs.holds, run.mid, run.token)):
            raise self._zombie(run)

    def _conclude(self, task: Any, run: Run, result: Any) -> Any:
        """Put the result on record, or the end of the run if nothing is left to do with it."""
        failpoint("R2")
        if run.state is State.LOST:
            raise self._zombie(run)
        last_call = self._last_call(task, run, result)
        if last_call is not None:
            if not self._until_lost(run, last_call):
                raise self._zombie(run)
            run.move(State.DONE)
            keep_from_storing(task.request)
            failpoint("R3")
            return result
        outcome = Returned(result).write()
        if outcome is None:
            logger.warning("%s[%s]: its result is no JSON, or too large: on record is only that it ran", task.name, run.task_id)
            outcome = Unshown(type(result).__name__).write()
        if not self._until_lost(run, partial(self.runs.ran, run.mid, run.token, outcome)):
            raise self._zombie(run)
        run.move(State.RAN)
        failpoint("R3")
        return result

    def _last_call(self, task: Any, run: Run, result: Any) -> LastCall | None:
        """Return what ends the run with its body; None when something is left to do before that."""
        request = task.request
        if _is_followed(task, request) or any(guard.kind == "idem" for guard in run.guards):
            return None
        if ignores_result(task.app, task, request):
            return self.ending.last_call(run, None)
        stored = self.results.of(task, request, result)
        return None if stored is None else self.ending.last_call(run, stored)

    def _until_lost(self, run: Run, ask: Callable[[], bool]) -> bool:
        """Ask until Redis answers or the lease is trusted no longer."""
        while True:
            try:
                return ask()
            except StoreUnavailable as error:
                if run.lease.lost:
                    if run.long:
                        return False
                    run.state = State.LOST
                    raise Reject(f"what became of it could not be put on record: {error}", requeue=True) from error
                time.sleep(RETRY_S)

    def _zombie(self, run: Run) -> Reject:
        """Drop what came of a run that is lost, but not its message: it may be the only copy, should nobody have taken the run yet."""
        run.state = State.LOST
        logger.warning("%s[%s] is not this process's any more: what it made of it is dropped", run.task, run.task_id)
        return Reject("lost to another process", requeue=True)


def _is_followed(task: Any, request: Any) -> bool:
    """Return whether a message, the next step of a chord or a DAG, or a handler of the task itself follows its success."""
    if request.callbacks or request.chain or request.chord or NodeId.parse(request.id):
        return True
    return bool(task_has_custom(task, "on_success") or task_has_custom(task, "after_return"))
