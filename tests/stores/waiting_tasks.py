"""Waiting tasks: the records of deferred tasks that tests of the stores put into the timetable."""

from celery_tw.stores.redis.codec import OneTime


def waiting_task(mid: str = "m1", *, task_id: str = "t1", stored_ms: int = 0, queue: str = "celery", message: bytes = b"{}") -> OneTime:
    """Return a task that waits under *task_id* and has no name."""
    return OneTime(
        mid=mid,
        name="",
        stored_ms=stored_ms,
        last_ms=None,
        fingerprint="f",
        queue_key=queue,
        extra={"task": "shop.tick"},
        message=message,
        task_id=task_id,
    )
