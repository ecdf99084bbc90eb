"""Passing on: what a process does with the outcome of a run whose body has run in another one, which died before Celery had heard of it.

The dead process may have been about to send the body of a chord. Celery's Redis backend lets one process do so, which holds a claim for
some seconds; who returns a part meanwhile leaves it to that one. So the claim of the dead is waited out.
"""

import time
from typing import Any

from celery.backends.redis import RedisBackend
from celery.exceptions import Reject, Retry
from celery.states import SUCCESS

from celery_tw.errors import ResultNotKept
from celery_tw.integration.runs.outcomes import Retries, Returned, Unshown
from celery_tw.runtime.run import Run

LONGEST_CLAIM_S = 60.0
LOOK_S = 0.1


def pass_on(task: Any, run: Run, outcome: Returned | Retries | Unshown) -> Any:
    """Return, or raise, what the body would have; raises `ResultNotKept` when that is not known any more."""
    _wait_out_the_claim_on_a_chord(task)
    if isinstance(outcome, Returned):
        return outcome.value
    if isinstance(outcome, Retries):
        raise _send_again(task, outcome)
    found = task.backend.get_task_meta(run.task_id)
    if found["status"] == SUCCESS:
        return found["result"]
    raise ResultNotKept(outcome.kind)


def _wait_out_the_claim_on_a_chord(task: Any) -> None:
    """Return when nobody holds the claim on sending the body of the present request's chord: it was sent, or is to be sent from here."""
    request, backend = task.request, task.backend
    if not (request.chord and request.group and isinstance(backend, RedisBackend)):
        return
    claim, deadline_s = backend.get_key_for_group(request.group, ".c"), time.monotonic() + LONGEST_CLAIM_S
    while backend.client.exists(claim) and time.monotonic() < deadline_s:
        time.sleep(LOOK_S)


def _send_again(task: Any, retry: Retries) -> Exception:
    """Send a retry with the mid that the first one had, if it was sent; of the two one runs."""
    try:
        task.apply_async(retry.args, retry.kwargs, retry.task_id, **retry.options)
    except Exception as error:  # whatever the broker raises: the message comes again, and the retry is on record
        return Reject(f"its retry could not be sent: {error}", requeue=True)
    return Retry("sent again for a process that died", when=retry.options.get("eta") or retry.options.get("countdown"))
