"""Lane: how urgent a task is where a queue is shared: high, medium or low.

Celery's ``priority`` says the same in ten steps, and brokers count them from different ends: 0 is the most urgent on Redis, 9 on RabbitMQ.
The lanes are the thirds of them.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from celery_tw.errors import InvalidLane

LANES = ("high", "medium", "low")
DEFAULT_LANE = "medium"
LEVELS = 10


def checked_lane(value: Any) -> str:
    """Return *value* if it is a lane; raises `InvalidLane`."""
    if isinstance(value, str) and value in LANES:
        return value
    near = get_close_matches(str(value).lower(), LANES, n=1)
    raise InvalidLane(f"a lane is one of {_listed(LANES)}, not {value!r}" + (f": did you mean {near[0]!r}?" if near else ""))


def lane_of_priority(priority: int, *, zero_is_first: bool, levels: int = LEVELS) -> str:
    """Return the lane of Celery's *priority* on a broker with so many *levels*, 0 the most urgent or the least."""
    rank = min(max(priority, 0), levels - 1)
    rank = rank if zero_is_first else levels - 1 - rank
    return LANES[rank * len(LANES) // levels]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))
