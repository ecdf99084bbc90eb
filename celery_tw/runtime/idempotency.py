"""Idempotency: a second task with the same key does not run, it has the result of the first.

The first run owns ``idem:<key>`` while it runs; others wait for it. When it succeeds its result is kept for a day and passed on by whoever
comes later, without the body: chain, callbacks and result are as if it had run. When it fails the key is free, and the next one tries.
"""

from celery_tw.stores.redis.runs.guards import Guard


def only_once(key: str) -> Guard:
    """Return the guard that lets one run succeed under *key*."""
    return Guard("idem", key)
