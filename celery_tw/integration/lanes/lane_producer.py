"""Lane producer: the producer that Celery is given for a task that may have a lane.

The lane is known when Celery has routed the task: then it is written into the message, and a task for a fair queue is offered to its lane.
"""

from collections.abc import Callable, Mapping
from typing import Any

from celery_tw.integration.lanes.lane_rule import lane_of
from celery_tw.integration.messages.identity_headers import LANE

Waits = Callable[[Any, Mapping[str, Any]], bool]


class LaneProducer:
    """Stands for the producer *real* during one send of *app*.

    *said* is the lane that was asked for, if any. *waits* takes a body and its publish options and returns whether the task waits in its
    lane by now; None lets none wait.
    """

    def __init__(self, app: Any, real: Any, *, said: str | None, waits: Waits | None) -> None:
        self._app = app
        self._real = real
        self._said = said
        self._waits = waits

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def publish(self, body: Any, **options: Any) -> Any:
        """Publish the task with its lane, or leave it there; publish anything else of the same call, such as an event, as it is."""
        routed, headers = options.pop("lane", None), options.get("headers")
        if headers and "task" in headers:
            headers[LANE] = self._said or lane_of(self._app, options, routed=routed)
            if self._waits is not None and self._waits(body, options):
                return None
        return self._real.publish(body, **options)
