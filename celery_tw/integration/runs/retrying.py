"""Retrying: what a task with a policy does when its body fails: it asks Celery for a retry, as a body of its own would.

So the retry goes the way of every other: it is on record before it is sent, waits in the timetable, keeps its id, its locks' order and its
place in a canvas. An error that the policy forgives no more is raised as it came, and is the task's failure.
"""

import logging
import random
from typing import Any

from celery.exceptions import Ignore, Reject
from celery.exceptions import Retry as Sent

from celery_tw.clock import SystemClock
from celery_tw.core.retry import Retry
from celery_tw.errors import CeleryTWError, ImproperlyConfigured
from celery_tw.integration.messages.identity_headers import ETA, FIRST, REPLAY_OF, SLOT
from celery_tw.integration.runs.run_headers import header_of
from celery_tw.integration.runs.runner import runner_of
from celery_tw.stores.redis.retry_budgets import RetryBudgets

logger = logging.getLogger(__name__)


def attempt(task: Any, args: Any, kwargs: Any) -> Any:
    """Run the body of *task*; raise Celery's `Retry` in the place of an error that its policy forgives."""
    try:
        return task.tw_body(*args, **kwargs)
    except (Ignore, Reject, Sent):
        raise
    except Exception as error:
        if task.tw_retry is None:
            raise
        policy, first_ms = task.tw_retry.towards(error), first_sent_ms(task.request)
        delay_ms = _delay_ms(task, policy, first_ms)
        if delay_ms is None:
            raise
        raise _sent_again(task, error, delay_ms=delay_ms, first_ms=first_ms) from error


def first_sent_ms(request: Any) -> int:
    """Return when the task of *request* was first sent, or was first to begin; now, when its message does not say so.

    The slot that a replay keeps is that of the send that died.
    """
    slot_ms = None if header_of(request, REPLAY_OF) else header_of(request, SLOT)
    found = header_of(request, FIRST) or slot_ms or header_of(request, ETA)
    return int(found) if found else SystemClock().wall_ms()


def _delay_ms(task: Any, policy: Retry, first_ms: int) -> int | None:
    """Return in how long the body is to run again, None when it is not."""
    retries = task.request.retries or 0
    if not policy.allows(retries=retries):
        return None
    age_ms = max(0, SystemClock().wall_ms() - first_ms)
    delay_ms = policy.delay_ms(retries=retries, draw=random.random())
    if policy.outlives(age_ms=age_ms + delay_ms):
        wait_ms = _wait_for_budget_ms(task, policy, longest_ms=policy.left_ms(age_ms=age_ms))
        if wait_ms is not None:
            return max(delay_ms, wait_ms)
    logger.info("%s[%s] is not retried: it would begin later than %g s after it was sent", task.name, task.request.id, policy.max_age)
    return None


def _wait_for_budget_ms(task: Any, policy: Retry, *, longest_ms: int | None) -> int | None:
    """Take a retry out of the budget; return in how long there is one, None when there is none within *longest_ms*.

    Where Redis does not answer, nobody waits.
    """
    if policy.budget is None or task.request.is_eager:
        return 0
    tokens, per_s = policy.budget
    try:
        runs = runner_of(task.app).runs
        budgets, per_ms = RetryBudgets(runs.client, runs.keys), max(1, round(1000 * per_s))
        return budgets.take(task.name, tokens=tokens, per_ms=per_ms, longest_ms=longest_ms)
    except (CeleryTWError, ImproperlyConfigured) as error:
        logger.warning("%s[%s] is retried without regard to its budget: %s", task.name, task.request.id, error)
        return 0


def _sent_again(task: Any, error: Exception, *, delay_ms: int, first_ms: int) -> Sent:
    """Send the retry; its limit is the policy's, not the task's."""
    headers = dict(task.request.headers or {})
    if task.tw_retry.counts_age:
        headers[FIRST] = first_ms
    most = (task.request.retries or 0) + 1
    sent: Sent = task.retry(exc=error, throw=False, countdown=delay_ms / 1000, max_retries=most, headers=headers)
    return sent


def note_first_send(task: Any, headers: dict[str, Any]) -> None:
    """Put into *headers*, of a task that is about to be sent, when it was first sent, if the age of the task counts."""
    if getattr(task, "tw_retry", None) is not None and task.tw_retry.counts_age:
        headers.setdefault(FIRST, SystemClock().wall_ms())


def policy_of(task: Any) -> Retry | None:
    """Return the policy in the options of *task*; raises ImproperlyConfigured, naming the task, for what is none."""
    policy = task.tw_retry
    if policy is None:
        return None
    if not isinstance(policy, Retry):
        raise ImproperlyConfigured(f"the task {task.name}, option retry: expected a celery_tw.Retry, got {policy!r}")
    if getattr(task, "autoretry_for", ()):
        raise ImproperlyConfigured(f"the task {task.name}, option retry: expected no autoretry_for beside it, which is a policy as well")
    return policy
