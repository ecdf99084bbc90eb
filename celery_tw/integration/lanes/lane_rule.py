"""Lane rule: which lane a task goes into that is being sent. The first that says something is right:

1. the call: ``apply_async(lane="low")``, ``send_task(…, lane="low")``, a signature's ``set(lane="low")``;
2. the header ``tw_lane`` that it brings: a retry has that of the run before it, a requeued message that of the first send;
3. the task: ``@app.task(lane="low")``;
4. its route: ``task_routes = {"shop.reports.*": {"lane": "low"}}``;
5. its ``priority``, by thirds; a retry has only what the broker made of it, on Redis 0 where nothing was said, so that says nothing;
6. the task that sends it: a chain, the callbacks and the body of a chord go on in the lane in which they began;
7. medium.

A call that names the lane of a chain names it for each part that has none of its own.
"""

from collections.abc import Mapping
from typing import Any

from celery._state import get_current_task

from celery_tw.core.lane import DEFAULT_LANE, LANES, checked_lane, lane_of_priority
from celery_tw.integration.messages.identity_headers import LANE

ZERO_IS_FIRST = "redis"
"""The kind of broker on which 0 is the most urgent priority; elsewhere it is the least."""


def said_lane(lane: Any, headers: Mapping[str, Any] | None, task: Any) -> str | None:
    """Return the lane that the call, its headers or its task name, None when none does; raises `InvalidLane`."""
    brought = (headers or {}).get(LANE)
    for value in (lane, brought if brought in LANES else None, getattr(task, "lane", None)):
        if value is not None:
            return checked_lane(value)
    return None


def lane_of(app: Any, options: Mapping[str, Any], *, routed: Any) -> str:
    """Return the lane of a publish for which nothing was said but perhaps by its route, *routed*; raises `InvalidLane`."""
    if routed is not None:
        return checked_lane(routed)
    priority = options.get("priority")
    if isinstance(priority, int) and not (options.get("headers") or {}).get("retries"):
        return lane_of_priority(priority, zero_is_first=_zero_is_first(app))
    return _lane_of_the_sender() or DEFAULT_LANE


def _zero_is_first(app: Any) -> bool:
    """Return which end of the priorities the broker calls the first; to ask kombu builds a connection, so it is asked once for each URL."""
    url = app.conf.broker_write_url
    known = vars(app).get("_tw_zero_is_first")
    if known is None or known[0] != url:
        known = app._tw_zero_is_first = url, app.connection_for_write().get_transport_cls().driver_type == ZERO_IS_FIRST
    return bool(known[1])


def keep_in_chain(options: dict[str, Any], lane: str) -> None:
    """Give each part that is to follow, in a send's *options*, the lane of the call, unless it has one."""
    if options.get("chain"):
        options["chain"] = [{**part, "options": {"lane": lane, **(part.get("options") or {})}} for part in options["chain"]]


def _lane_of_the_sender() -> str | None:
    task = get_current_task()
    return None if task is None else vars(task.request).get(LANE)
