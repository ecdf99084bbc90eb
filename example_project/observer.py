"""Observer: reads the ledger as it grows, shows it, and waits for facts; a process that ends by itself ends the wait."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from example_project.ledger import Ledger, Line
from example_project.processes import Child, Children
from example_project.screen import Screen

T = TypeVar("T")
POLL_EVERY_S = 0.05


class Failed(Exception):
    """Raised when the demonstration cannot go on, with what a person needs to see why."""


@dataclass(slots=True)
class Observer:
    """Everything that ran so far is in *lines*, and shown, unless what one waits for is something else."""

    ledger: Ledger
    children: Children
    screen: Screen
    lines: list[Line] = field(default_factory=list)
    shows_runs: bool = True

    def look(self) -> None:
        """Take in and show what is new, and wait a moment."""
        new = list(self.ledger.read(len(self.lines)))
        self.lines += new
        for line in new if self.shows_runs else ():
            self.screen.fire(line)
        ended = self.children.ended()
        if ended is not None:
            raise Failed(f"{ended.name} ended by itself, with code {ended.process.returncode}:\n{ended.log_tail()}")
        time.sleep(POLL_EVERY_S)

    def watch(self, duration_s: float) -> None:
        """Show what runs, for a while."""
        until_s = time.monotonic() + duration_s
        while time.monotonic() < until_s:
            self.look()

    def wait_for(self, what: str, find: Callable[[], T | None], timeout_s: float) -> T:
        """Return the first true answer of *find*; raises `Failed` with the logs after *timeout_s*."""
        deadline_s = time.monotonic() + timeout_s
        while not (found := find()):
            if time.monotonic() > deadline_s:
                raise Failed(f"waited {timeout_s:g} s in vain for {what}{_logs(self.children.all)}")
            self.look()
        return found

    def ran_ms(self, entry: str) -> list[int]:
        """Return the slots for which the task of *entry* ran; a run without a slot counts as slot 0."""
        return [line.slot_ms or 0 for line in self.lines if line.entry == entry]

    def runs(self, entry: str) -> int:
        """Return how often the task of *entry* ran."""
        return sum(line.entry == entry for line in self.lines)


def _logs(children: list[Child]) -> str:
    return "".join(f"\n--- {child.name}\n{child.log_tail()}" for child in children)
