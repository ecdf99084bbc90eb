"""Ledger: what the tasks of the project under test wrote, read as it grows."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.processes.slots import Run


@dataclass(frozen=True, slots=True)
class Line:
    """One run of a task; *slot_ms* and *entry* are None when it was not fired for a slot."""

    task: str
    entry: str | None
    slot_ms: int | None
    task_id: str
    at_ms: int
    value: Any

    @property
    def run(self) -> Run:
        return Run(self.entry or "(none)", self.slot_ms, self.at_ms)


class Ledger:
    """All lines so far. Each question reads what was added since the last one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: list[Line] = []
        self._offset = 0

    def lines(self, entry: str | None = None) -> list[Line]:
        """Return the lines of *entry*, or all, in the order in which they were written."""
        self._read_on()
        return [line for line in self._lines if entry is None or line.entry == entry]

    def slots(self, entry: str) -> list[int]:
        """Return for which slots of *entry* a task ran, in order."""
        return sorted(line.slot_ms for line in self.lines(entry) if line.slot_ms is not None)

    def reaches(self, entries: Iterable[str], after_ms: int) -> bool:
        """Return whether each of *entries* has run for a slot after *after_ms*."""
        last_ms: dict[str | None, int] = {}
        for line in self.lines():
            last_ms[line.entry] = max(line.slot_ms or 0, last_ms.get(line.entry, 0))
        return all(last_ms.get(entry, 0) > after_ms for entry in entries)

    def longest_gap_ms(self) -> int:
        """Return the longest time in which nothing ran."""
        moments = sorted(line.at_ms for line in self.lines())
        return max((later - earlier for earlier, later in pairwise(moments)), default=0)

    def _read_on(self) -> None:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._offset)
            added = file.read()
        whole = added[: added.rfind(b"\n") + 1]
        self._offset += len(whole)
        self._lines += [Line(**json.loads(text)) for text in whole.splitlines()]
