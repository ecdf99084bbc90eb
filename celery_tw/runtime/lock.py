"""Lock: at most one run at a time under a key, in any task and any worker.

``SET lock:<key> <mid> NX PX tw_lock_timeout``, extended by the heartbeat of the process that runs. It is held in the name of the run, so
the run's own successor, after its worker died, waits for nobody; everybody else waits, skips or fails as ``lock_busy`` says. Who waits is
parked in the timetable, in turn, and the end of a run hands the lock to the next: it is kept for it for some seconds, and its entry is due
at once. The time-out is only for what nobody is left to release.
"""

from typing import Literal

from celery_tw.stores.redis.runs.guards import Guard

LockBusy = Literal["wait", "skip", "fail"]
CHOICES: tuple[LockBusy, ...] = ("wait", "skip", "fail")


def lock(key: str) -> Guard:
    """Return the guard that lets one run at a time have *key*."""
    return Guard("lock", key)
