"""Deferring producer: the producer that Celery is given for a task with an ETA.

Celery routes, serialises and signals as ever; only the publish itself is different. The first is the task: it is stored, or else goes to
the real producer with the ETA in its header, as Celery would have sent it. Later ones belong to the same call (a ``task-sent`` event, a
second try of Celery's) and go to the real producer.
"""

from collections.abc import Callable, Mapping
from typing import Any

from celery_tw.integration.deferring.native_delay import with_native_delay
from celery_tw.integration.messages.identity_headers import ETA
from celery_tw.integration.moments import from_ms

Store = Callable[[Any, Mapping[str, Any]], bool]


class DeferringProducer:
    """Stands for the producer *real* during one send of *app*.

    *store* takes a body and its publish options and returns whether it stored them; otherwise the task is due at *due_ms*, in *delay_ms*.
    """

    def __init__(self, app: Any, real: Any, *, due_ms: int, delay_ms: int, store: Store) -> None:
        self._app = app
        self._real = real
        self._eta = from_ms(due_ms).isoformat()
        self._delay_ms = delay_ms
        self._store = store
        self._seen = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def publish(self, body: Any, **options: Any) -> Any:
        """Store the task, or publish it with its ETA; publish anything that follows."""
        if self._seen:
            return self._real.publish(self._with_eta(body), **options)
        self._seen = True
        if self._store(body, options):
            return None
        headers = options["headers"]
        headers["eta"] = self._eta
        headers.pop(ETA, None)
        driver_type = self._real.connection.transport.driver_type
        return self._real.publish(body, **with_native_delay(self._app, options, driver_type=driver_type, delay_ms=self._delay_ms))

    def _with_eta(self, body: Any) -> Any:
        """Return a ``task-sent`` event with the ETA that its task was called with."""
        return {**body, "eta": self._eta} if isinstance(body, dict) and body.get("type") == "task-sent" else body
