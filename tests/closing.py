"""Closing: ends what a Celery app holds open, so that no thread and no socket of one test reaches the next.

An app has a result backend for each thread that sent or awaited a task, and forgets it with the thread, connection and all. So every one
that is made is remembered until its app is closed.
"""

from typing import Any

from celery import Celery
from celery.backends.redis import RedisBackend

_make_backend = Celery._get_backend


def _make_and_remember(app: Celery) -> Any:
    backend = _make_backend(app)
    vars(app).setdefault("_backends_made", []).append(backend)
    return backend


Celery._get_backend = _make_and_remember


def close(app: Celery) -> None:
    """Stop the app's result consumers, and close its connections."""
    for backend in vars(app).pop("_backends_made", ()):
        if isinstance(backend, RedisBackend):
            backend.result_consumer.stop()
            backend.result_consumer._pubsub = None  # or a result that is collected later would connect again to unsubscribe
            backend.client.close()
    app.close()
