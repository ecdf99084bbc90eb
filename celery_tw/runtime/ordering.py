"""Ordering: the runs of one key start in the order in which they were sent, one after the other.

The sender draws a number from ``order:<key>``; the lowest is the head, and only the head runs. Each end strikes its number: success,
failure, cancellation, revoke and expiry. A retry takes the place of the run before it, so what was sent later waits for it. A task with an
ETA, and one that was sent by name from a process that does not know it, draws its number when it first reaches a worker.

A head that does not start (its message was lost, or purged) is passed over after `PATIENCE_MS`, and the log says so.
"""

from celery_tw.stores.redis.runs.guards import Guard

PATIENCE_MS = 10 * 60 * 1000


def turn(key: str, *, patience_ms: int = PATIENCE_MS) -> Guard:
    """Return the guard that lets the runs of *key* have it in the order of their numbers."""
    return Guard("order", key, str(patience_ms))
