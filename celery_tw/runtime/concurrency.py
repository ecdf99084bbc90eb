"""Concurrency: at most so many runs at a time, of a task or under a key, over all workers.

A slot is a member of ``sem:<key>``, in the name of its run. A slot whose process stopped renewing it counts no more after
``tw_lock_timeout``. Who finds none free is parked, in turn, and a slot that is given back is kept for the next.
"""

from celery_tw.stores.redis.runs.guards import Guard


def slot(key: str, *, limit: int) -> Guard:
    """Return the guard that lets *limit* runs at a time have *key*."""
    return Guard("sem", key, str(limit))
