"""Run views: runs that are under way, as people and programs see them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kombu.utils.json import loads

from celery_tw.integration.moments import from_ms
from celery_tw.stores.redis.runs.record import Record
from celery_tw.stores.redis.runs.runs import Runs

SHOWN_AT_MOST = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """A run under way: *state* is accepted, running, ran, free or yielded; *losses* count since the last new checkpoint."""

    mid: str
    task_id: str
    task: str
    state: str
    started: datetime | None
    process: str
    token: int
    losses: int
    long: bool
    holds: tuple[str, ...]
    cancel: str | None
    progress: Any = None


class RunList:
    """What is known of the runs of one app's timetable."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    def under_way(self, limit: int = SHOWN_AT_MOST) -> list[RunView]:
        """Return up to *limit* runs under way, the oldest first."""
        records = self._runs.under_way.read(list(self._runs.under_way.counters())[:limit])
        return [self._view(record) for record in sorted(records, key=lambda record: record.at_ms)]

    def show(self, task_id: str) -> list[RunView]:
        """Return the runs under way of one task, with their progress."""
        found = [record for record in self._runs.under_way.read(self._runs.under_way.counters()) if record.task_id == task_id]
        progress = self.checkpoint(task_id)
        return [self._view(record, progress) for record in found]

    def checkpoint(self, task_id: str) -> Any:
        """Return the last state that a long task has saved, whether it runs, waits, failed or was cancelled; None when there is none."""
        raw = self._runs.checkpoints.load(task_id)
        return None if raw is None else loads(raw)

    def _view(self, record: Record, progress: Any = None) -> RunView:
        return RunView(
            mid=record.mid,
            task_id=record.task_id,
            task=record.task,
            state=record.state,
            started=from_ms(record.at_ms) if record.at_ms else None,
            process=record.owner.rpartition(":")[0],
            token=int(record.token or 0),
            losses=record.losses,
            long=record.long,
            holds=tuple(f"{guard.kind}:{guard.key}" for guard in record.guards),
            cancel=record.cancel,
            progress=progress,
        )
