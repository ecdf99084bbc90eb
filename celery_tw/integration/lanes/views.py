"""Views of lanes: what waits for fair queues, as people and programs see it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneView:
    """One lane of a queue.

    *waiting* tasks were sent in it, the *oldest* of them so many seconds ago, and *starving* of them for longer than
    ``tw_starvation_alert``. In the last minutes *admitted* tasks went on in its turn, which is a *share* of all, in percent; *asked* is
    the share that the settings give it.
    """

    lane: str
    waiting: int
    oldest: float | None
    starving: int
    admitted: int
    share: float | None
    asked: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueView:
    """One queue with its *lanes*, high first.

    It is *fair* when the settings name it; one that they name no more is emptied as it was. *capacity* is how many tasks its *workers* run
    at once, by their own word.
    """

    queue: str
    fair: bool
    workers: tuple[str, ...]
    capacity: int
    lanes: tuple[LaneView, ...]

    @property
    def waiting(self) -> int:
        """Return how many tasks wait for the queue."""
        return sum(lane.waiting for lane in self.lanes)

    @property
    def oldest(self) -> float | None:
        """Return for how many seconds the oldest of them has waited."""
        return max((lane.oldest for lane in self.lanes if lane.oldest is not None), default=None)

    @property
    def unconsumed(self) -> bool:
        """Return whether tasks wait and no worker has said that it consumes the queue."""
        return self.waiting > 0 and not self.workers


@dataclass(frozen=True, slots=True, kw_only=True)
class LanedTask:
    """A task that waits *since* then, for *waited* seconds, in *lane*, and *counts_as* one of that lane by now."""

    task_id: str
    task: str
    queue: str
    lane: str
    counts_as: str
    since: datetime
    waited: float


def capacities(consumers: Mapping[str, Mapping[str, object]], queue: str) -> tuple[tuple[str, ...], int]:
    """Return the workers that have said that they consume *queue*, and how many tasks they run at once."""
    here = {hostname: line for hostname, line in consumers.items() if queue in line["queues"]}  # type: ignore[operator]
    return tuple(sorted(here)), sum(int(str(line["concurrency"])) for line in here.values())
