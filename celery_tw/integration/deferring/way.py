"""Way: how a send goes that does not simply go, decided before Celery is asked to send.

Celery is given another producer then, or several, each standing for the next::

    Celery ──▶ marking ──▶ lane ──▶ deferring ──▶ the real one
               puts our headers beside those of a route
                            writes the lane, and may leave the task in it
                                      stores the task until it is due
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from celery_tw.integration.lanes.lane_producer import Waits


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How a send goes that does not simply go: what stands in the place of its producer.

    It waits until *due_ms*, or goes now. One that is *laned* has the lane that was *said*, or another that is known when it is routed, and
    *waits* offers it to that. *marks* are headers of ours that Celery must not see before it has taken those of the route.
    """

    due_ms: int | None = None
    laned: bool = False
    said: str | None = None
    waits: Waits | None = None
    marks: Mapping[str, Any] | None = None
