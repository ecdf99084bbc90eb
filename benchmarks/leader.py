"""Leader: what can be seen from outside of who leads the time wheel."""

import time

import redis
from celery import Celery

from celery_tw.integration.connected import Connected

LOOK_S = 0.005


def wait_for_leader(app: Celery, client: redis.Redis, *, timeout_s: float = 60.0) -> float:
    """Wait until there is a leader; return when it was first seen, by the wall clock."""
    key = Connected(app).keys.leader
    deadline_s = time.monotonic() + timeout_s
    while not client.exists(key):
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"no scheduler became leader within {timeout_s:g} s")
        time.sleep(LOOK_S)
    return time.time()


def leader_pid(app: Celery, client: redis.Redis) -> int:
    """Return the process id of the leader; its owner name is ``host:pid:random``."""
    owner = client.hget(Connected(app).keys.leader, "owner") or b""
    return int(owner.split(b":")[1])
