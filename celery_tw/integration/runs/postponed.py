"""Postponed: what a process raises for a task that it cannot run now, and the parent, which has the message, hears."""

from celery.exceptions import Ignore


class Postponed(Ignore):
    """Tells the parent to park the message: *delay_ms*, the *guard* that it waits for, and the *token* of a run that yields."""

    def __init__(self, delay_ms: int = 0, guard: tuple[str, str, str] | None = None, token: str = "") -> None:
        super().__init__(delay_ms, guard, token)
        self.delay_ms = delay_ms
        self.guard = guard
        self.token = token

    def __repr__(self) -> str:
        return f"postponed for up to {self.delay_ms / 1000:g} s" if not self.token else "yields to go on elsewhere"

    __str__ = __repr__
