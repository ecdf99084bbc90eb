"""Guarded application: the same no-op task, once plain and once with each contender's base, on the broker at ``BENCH_URL``.

All are acknowledged late and store their results, so that only what guards them differs.
"""

import os
from typing import Any

import celery_singleton.backends
from celery import Celery
from celery_once import QueueOnce
from celery_singleton import Singleton

import celery_tw

BASES: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("celery", {}),
    "once": ("celery-tw, no guard", {"base": celery_tw.Task}),
    "locked": ("celery-tw, lock", {"base": celery_tw.Task, "lock": "k:{number}"}),
    "queue_once": ("celery-once", {"base": QueueOnce}),
    "singleton": ("celery-singleton", {"base": Singleton}),
}
"""Task → who that is, and its options."""


def make_app(url: str) -> Celery:
    """Return the app on the Redis at *url* (a unix socket, as kombu writes it)."""
    celery_singleton.backends._backend = None  # it would keep the first server of this process for ever
    app = Celery("benchmarks", broker=url, backend=url, set_as_current=False)
    app.conf.update(
        ONCE={"backend": "celery_once.backends.Redis", "settings": {"url": url.partition("?")[0], "default_timeout": 3600}},
        broker_connection_retry_on_startup=True,
        singleton_backend_url=url.replace("redis+socket://", "unix://").partition("?")[0],
        worker_prefetch_multiplier=4,
    )
    for name, (_, options) in BASES.items():
        app.task(name=name, shared=False, acks_late=True, **options)(_body())
    app.finalize()
    return app


def _body() -> Any:
    def body(number: int) -> int:
        return number

    return body


if "BENCH_URL" in os.environ:
    app = make_app(os.environ["BENCH_URL"])
