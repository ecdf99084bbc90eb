"""Run: one logical execution, as the process that executes it sees it, and the moves that its state may make."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from celery_tw.runtime.lease import Lease
from celery_tw.stores.redis.runs.guards import Guard


class State(StrEnum):
    """Where a run is. The final ones are those from which nothing leads on."""

    RUNNING = "running"
    RAN = "ran"
    FREE = "free"
    YIELDED = "yielded"
    LOST = "lost"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    RETRIED = "retried"


MOVES: Mapping[State, frozenset[State]] = {
    State.RUNNING: frozenset(State) - {State.RUNNING},
    State.RAN: frozenset({State.DONE, State.FAILED, State.FREE, State.LOST}),
    State.FREE: frozenset({State.RUNNING}),
    State.YIELDED: frozenset({State.RUNNING, State.CANCELLED}),
    State.LOST: frozenset({State.RUNNING, State.RAN, State.FAILED, State.CANCELLED}),
    State.DONE: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELLED: frozenset(),
    State.RETRIED: frozenset(),
}
"""A run that has ended stays as it is; one whose body has returned can no longer be cancelled, only passed on."""


@dataclass(slots=True)
class Run:
    """A run that this process has acquired."""

    mid: str
    task_id: str
    task: str
    token: str
    lease: Lease
    guards: Sequence[Guard] = ()
    long: bool = False
    losses: int = 0
    state: State = field(default=State.RUNNING)

    def move(self, to: State) -> None:
        """Change the state; raises `ValueError` for a move that no run makes."""
        if to not in MOVES[self.state]:
            raise ValueError(f"run {self.mid} is {self.state} and cannot become {to}")
        self.state = to
