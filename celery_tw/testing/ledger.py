"""Ledger: what happened, one JSON line each, in a file outside the system under test.

Whoever claims, receives, starts or ends something appends a line of its own; nobody asks the scheduler, the broker or the backend
afterwards, because those are what is being judged. A line is one ``write`` to a file that is opened for appending only, so the lines of any
number of processes on this machine stand whole, also those of a process that is killed the moment after. A power cut is not in question, so
nothing is flushed to the disk.

=============  =========================================================================  ===================================
what           happened                                                                   besides ``entry`` and ``slot_ms``
=============  =========================================================================  ===================================
``claimed``    the store took a slot as decided; in the order in which the store did so   ``epoch``, ``mid``
``published``  a message was handed to the broker                                         ``mid``
``received``   a message came off its queue                                               ``mid``, ``task``, ``task_id``
``started``    the body of a task began                                                   ``mid``, ``task``, ``task_id``
``ended``      the body of a task ended, its effect is done                               ``mid``, ``task``, ``task_id``
``skipped``    the scheduler recorded that a slot, or all up to ``until_ms``, won't fire  ``until_ms``, ``reason``
=============  =========================================================================  ===================================

A test need not write all kinds. ``started`` alone, from the tasks, is enough to find what was missed, doubled, early or never scheduled.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Any

from celery_tw.errors import MalformedRecord


class What(StrEnum):
    """What a line tells; see the table above."""

    CLAIMED = "claimed"
    PUBLISHED = "published"
    RECEIVED = "received"
    STARTED = "started"
    ENDED = "ended"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One thing that happened at *at_ms*. *entry* and *slot_ms* are None where it was for no slot; *value* is the test's own JSON."""

    what: What
    at_ms: int
    entry: str | None = None
    slot_ms: int | None = None
    mid: str | None = None
    task: str | None = None
    task_id: str | None = None
    epoch: int | None = None
    until_ms: int | None = None
    reason: str = ""
    value: Any = None


class Ledger:
    """The file at *path*: appended to by any process, read as it grows by the one that judges."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._lines: list[Line] = []
        self._offset = 0

    def append(self, *lines: Line) -> None:
        """Write *lines*, all at once; raises `OSError`."""
        text = "".join(json.dumps(_written(line)) + "\n" for line in lines).encode()
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            if os.write(file, text) != len(text):
                raise OSError(f"{self.path}: a line was cut short; is the disk full?")
        finally:
            os.close(file)

    def lines(self, entry: str | None = None) -> list[Line]:
        """Return the lines of *entry*, or all, in the order in which they were written; raises `MalformedRecord`."""
        self._read_on()
        return [line for line in self._lines if entry is None or line.entry == entry]

    def slots(self, entry: str) -> list[int]:
        """Return for which slots of *entry* something happened other than a skip, in order."""
        return sorted(line.slot_ms for line in self.lines(entry) if line.slot_ms is not None and line.what is not What.SKIPPED)

    def reaches(self, entries: Iterable[str], after_ms: int) -> bool:
        """Return whether something has happened for a slot after *after_ms* of each of *entries*."""
        last_ms: dict[str | None, int] = {}
        for line in self.lines():
            last_ms[line.entry] = max(line.slot_ms or 0, last_ms.get(line.entry, 0))
        return all(last_ms.get(entry, 0) > after_ms for entry in entries)

    def longest_gap_ms(self) -> int:
        """Return the longest time in which nothing happened."""
        moments = sorted(line.at_ms for line in self.lines())
        return max((later - earlier for earlier, later in pairwise(moments)), default=0)

    def _read_on(self) -> None:
        """Read what was added since the last time, up to the last whole line."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._offset)
            added = file.read()
        whole = added[: added.rfind(b"\n") + 1]
        self._offset += len(whole)
        self._lines += [self._parse(text) for text in whole.splitlines()]

    def _parse(self, text: bytes) -> Line:
        try:
            fields = json.loads(text)
            return Line(**{**fields, "what": What(fields["what"])})
        except (ValueError, TypeError, KeyError) as error:
            raise MalformedRecord(f"{self.path}: expected a line of a ledger, got {text[:200]!r} ({error})") from error


def _written(line: Line) -> dict[str, Any]:
    """Return the fields of *line* that say something."""
    return {name: value for name, value in asdict(line).items() if value is not None and value != ""}
