"""Views: runs of DAGs and their nodes, as people and programs see them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from celery_tw.integration.moments import from_ms

if TYPE_CHECKING:
    from celery_tw.stores.sql.reading import NodeRow, RunRow


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """A node of a run: *state* is pending, ready, queued, running, succeeded, failed, skipped, blocked or cancelled."""

    key: str
    task: str
    task_id: str
    state: str
    attempt: int
    after: tuple[str, ...]
    queued: datetime | None
    started: datetime | None
    ended: datetime | None
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DagRunView:
    """A run: *state* is running, paused, succeeded, failed or cancelled; *counts* tells how many nodes are in which state."""

    id: str
    dag: str
    state: str
    nodes: int
    counts: dict[str, int]
    submitted: datetime
    ended: datetime | None
    idempotency_key: str | None


def run_view(row: "RunRow") -> DagRunView:
    """Return a stored run as people see it."""
    return DagRunView(
        id=row.id,
        dag=row.name,
        state=str(row.state),
        nodes=row.nodes,
        counts={str(state): count for state, count in sorted(row.counts.items())},
        submitted=from_ms(row.submitted_ms),
        ended=_moment(row.ended_ms),
        idempotency_key=row.idempotency_key,
    )


def node_views(rows: Sequence["NodeRow"]) -> list[NodeView]:
    """Return the stored nodes of one run as people see them, parents first."""
    keys = {row.number: row.key for row in rows}
    return [
        NodeView(
            key=row.key,
            task=row.task,
            task_id=row.task_id,
            state=str(row.state),
            attempt=row.attempt,
            after=tuple(keys[parent] for parent in row.after),
            queued=_moment(row.queued_ms),
            started=_moment(row.started_ms),
            ended=_moment(row.ended_ms),
            error=row.error,
        )
        for row in rows
    ]


def _moment(at_ms: int | None) -> datetime | None:
    return None if at_ms is None else from_ms(at_ms)
