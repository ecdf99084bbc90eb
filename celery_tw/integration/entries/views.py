"""Views: entries and slots as people and programs see them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of the timetable.

    *next_run* is when it is due, None while it is paused, finished or set aside. *error* says why it cannot be read, when it cannot.
    *last_run* and *total_runs* count fires; a one-time task has neither, because it leaves the timetable when it fires.
    """

    name: str
    entry_id: int
    kind: Literal["recurring", "one-time"]
    task: str
    schedule: Mapping[str, Any]
    source: str
    paused: bool
    next_run: datetime | None
    last_run: datetime | None
    total_runs: int
    misfire: Mapping[str, Any]
    note: str = ""
    pause_note: str = ""
    error: str = ""
    signature: Mapping[str, Any] | None = None
    options: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One fired slot, or a range of slots that were not fired (*count* of them, *at_least* when counting stopped).

    *status* is fired or skipped; *generation* is 0 but for backfills.
    """

    slot: datetime
    status: Literal["fired", "skipped"]
    fired_at: datetime | None = None
    lateness: float | None = None
    task_id: str | None = None
    generation: int = 0
    until: datetime | None = None
    count: int = 1
    at_least: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some entries, and the cursor for the next page (None at the end)."""

    entries: list[Entry]
    cursor: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What `schedule` and `schedule_many` did: how many entries were written, how many stood as given."""

    put: int
    unchanged: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Backfill:
    """What `backfill` will do or has asked for: how many slots, the first and the last, and the generation (None for a dry run)."""

    slots: int
    first: datetime | None
    last: datetime | None
    generation: int | None
