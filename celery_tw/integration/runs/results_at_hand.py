"""Results at hand: results that a script can store in the step that ends their runs, because they belong where the runs are.

That is so when the backend is Celery's own for Redis, on the server and in the database of the timetable, with the same user, and keeps
results as JSON without compression. Any other stores the result itself, between two calls of ours (see `runner`).

Key, text and expiry are made by the backend's own methods, so what is stored is what Celery would have stored.
"""

from typing import Any

from celery.backends.redis import RedisBackend
from celery.states import SUCCESS
from kombu.exceptions import EncodeError
from kombu.utils.encoding import bytes_to_str

from celery_tw.integration.broker import place_of
from celery_tw.stores.redis.runs.stored_result import StoredResult

LARGEST = 256 * 1024
"""What is longer is not sent through a script."""


class ResultsAtHand:
    """Makes the results that belong to the Redis of *client*."""

    def __init__(self, client: Any) -> None:
        self._place = place_of(client.connection_pool)

    def of(self, task: Any, request: Any, value: Any) -> StoredResult | None:
        """Return what is to be stored of a success with *value*; None when Celery is to do it."""
        backend = task.backend
        if not self._has(backend):
            return None
        try:
            meta = backend._get_result_meta(backend.encode_result(value, SUCCESS), SUCCESS, None, request)
            meta["task_id"] = bytes_to_str(request.id)
            text = backend.encode(meta)
        except EncodeError:  # Celery meets it again, and makes a failure of it
            return None
        return StoredResult(backend.get_key_for_task(request.id), text, backend.expires or 0) if len(text) <= LARGEST else None

    def _has(self, backend: Any) -> bool:
        """Return whether *backend*, of which each thread has its own, keeps its results here; looked at once."""
        facts = vars(backend)
        if "_tw_at_hand" not in facts:
            backend._tw_at_hand = (
                type(backend) is RedisBackend
                and backend.serializer == "json"
                and getattr(backend, "compression", None) is None
                and self._place is not None
                and place_of(backend.client.connection_pool) == self._place
            )
        return bool(facts["_tw_at_hand"])
