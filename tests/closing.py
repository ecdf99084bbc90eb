"""Closing: ends what a Celery app holds open, so that no thread and no socket of one test reaches the next."""

from celery import Celery


def close(app: Celery) -> None:
    """Stop the app's result consumer, if it has one, and close its connections."""
    backend = app._backend_cache or getattr(app._local, "backend", None)
    if backend is not None and hasattr(backend, "result_consumer"):
        backend.result_consumer.stop()
        backend.result_consumer._pubsub = None  # or a result that is collected later would connect again to unsubscribe
        backend.client.close()
    app.close()
