"""Passing on: what a process does with the outcome of a run whose body has run in another one, which died before Celery had heard of it."""

from typing import Any

from celery.exceptions import Reject, Retry
from celery.states import SUCCESS

from celery_tw.errors import ResultNotKept
from celery_tw.integration.runs.outcomes import Retries, Returned, Unshown
from celery_tw.runtime.run import Run


def pass_on(task: Any, run: Run, outcome: Returned | Retries | Unshown) -> Any:
    """Return, or raise, what the body would have; raises `ResultNotKept` when that is not known any more."""
    if isinstance(outcome, Returned):
        return outcome.value
    if isinstance(outcome, Retries):
        raise _send_again(task, outcome)
    found = task.backend.get_task_meta(run.task_id)
    if found["status"] == SUCCESS:
        return found["result"]
    raise ResultNotKept(outcome.kind)


def _send_again(task: Any, retry: Retries) -> Exception:
    """Send a retry with the mid that the first one had, if it was sent; of the two one runs."""
    try:
        task.apply_async(retry.args, retry.kwargs, retry.task_id, **retry.options)
    except Exception as error:  # whatever the broker raises: the message comes again, and the retry is on record
        return Reject(f"its retry could not be sent: {error}", requeue=True)
    return Retry("sent again for a process that died", when=retry.options.get("eta") or retry.options.get("countdown"))
