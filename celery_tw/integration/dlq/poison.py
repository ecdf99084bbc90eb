"""Poison: a message that takes its worker down comes back, and takes down the next.

The broker says of a message only that it came back, not how often. So the starts of its body are counted: of a task without our bases
before each (``failures.py``), of a guarded one when a run begins (``runs/runner.py``). What was only fetched when its worker died is not
counted.
"""

from collections.abc import Mapping
from typing import Any

from celery_tw.integration.dlq.burying import Burying
from celery_tw.integration.dlq.coverage import covers
from celery_tw.integration.dlq.deaths import mid_of_headers


def starts_of_poison(burying: Burying, task: Any, headers: Mapping[str, Any]) -> int:
    """Return how often a message of *task* that came back was started, 0 when it may be started once more."""
    mid = mid_of_headers(headers)
    if task is None or not mid or not covers(burying.settings.dlq, task, headers):
        return 0
    again = burying.letters.redeliveries(mid)
    if again < burying.settings.dlq_max_redeliveries or _may_go_on(burying, task, mid):
        return 0
    return again + 1


def _may_go_on(burying: Burying, task: Any, mid: str) -> bool:
    """Return whether the message of a guarded task is none that takes its worker down: its run lives, or has ended."""
    if not getattr(task, "tw_guarded", False):
        return False
    return not any(record.owner == "" for record in burying.runs.under_way.read([mid]))
