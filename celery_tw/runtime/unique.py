"""Unique: a task that already waits or runs under a key is not sent a second time.

The sender takes ``unique:<key>`` for its task id; whoever comes second gets the first one's id. The key is kept while its task runs and
given back by each final end but a retry, which goes on under the same id. A task that never arrives holds it for `CLAIM_MS`.
"""

from celery_tw.stores.redis.runs.guards import Guard

CLAIM_MS = 24 * 3600 * 1000


def alone(key: str) -> Guard:
    """Return the guard that keeps *key* for the task while it runs, and gives it back."""
    return Guard("unique", key)
