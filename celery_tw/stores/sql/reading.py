"""Reading: runs and nodes as they stand."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, select

from celery_tw.core.dag_state import NodeState, RunState
from celery_tw.core.node_id import NodeId
from celery_tw.errors import UnknownDagRun, UnknownNode
from celery_tw.stores.sql.database import Database
from celery_tw.stores.sql.locked_run import Given
from celery_tw.stores.sql.tables import edge, node, run


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """A run; *counts* tells how many of its nodes are in each state."""

    id: str
    name: str
    state: RunState
    nodes: int
    submitted_ms: int
    ended_ms: int | None
    idempotency_key: str | None
    counts: dict[NodeState, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRow:
    """A node of a run; *after* are the numbers of its parents."""

    number: int
    key: str
    task: str
    task_id: str
    state: NodeState
    attempt: int
    after: tuple[int, ...]
    queued_ms: int | None
    started_ms: int | None
    ended_ms: int | None
    error: str


_STATE = select(run.c.state).where(run.c.id == bindparam("at_run"))


class Reading:
    """Looks at the runs of one namespace."""

    def __init__(self, database: Database, namespace: str) -> None:
        self.database = database
        self.namespace = namespace

    def runs(self, *, name: str | None = None, state: RunState | None = None, limit: int) -> list[RunRow]:
        """Return up to *limit* runs, the newest first."""

        def read(connection: Connection) -> list[RunRow]:
            rows = select(run).where(run.c.namespace == self.namespace).order_by(run.c.submitted_ms.desc(), run.c.id).limit(limit)
            rows = rows if name is None else rows.where(run.c.name == name)
            rows = rows if state is None else rows.where(run.c.state == state)
            return _runs(connection, list(connection.execute(rows)))

        return self.database.look(read)

    def run(self, run_id: str) -> RunRow:
        """Return one run; raises `UnknownDagRun`."""

        def read(connection: Connection) -> RunRow:
            found = connection.execute(select(run).where(run.c.id == run_id, run.c.namespace == self.namespace)).one_or_none()
            if found is None:
                raise UnknownDagRun(run_id)
            return _runs(connection, [found])[0]

        return self.database.look(read)

    def state(self, run_id: str) -> RunState:
        """Return the state of a run; raises `UnknownDagRun`."""
        state = self.database.look(lambda connection: connection.execute(_STATE, {"at_run": run_id}).scalar())
        if state is None:
            raise UnknownDagRun(run_id)
        return RunState(state)

    def nodes(self, run_id: str) -> list[NodeRow]:
        """Return the nodes of a run, parents first."""

        def read(connection: Connection) -> list[NodeRow]:
            after: dict[int, list[int]] = {}
            pairs = select(edge.c.child, edge.c.parent).where(edge.c.run_id == run_id).order_by(edge.c.child, edge.c.parent)
            for child, parent in connection.execute(pairs):
                after.setdefault(child, []).append(parent)
            rows = connection.execute(select(node).where(node.c.run_id == run_id).order_by(node.c.number))
            return [_node(row, tuple(after.get(row.number, ()))) for row in rows]

        return self.database.look(read)

    def result(self, run_id: str, key: str) -> tuple[NodeState, Given]:
        """Return the state and the result of a node; raises `UnknownNode`."""

        def read(connection: Connection) -> tuple[NodeState, Given]:
            row = connection.execute(select(node).where(node.c.run_id == run_id, node.c.node_key == key)).one_or_none()
            if row is None:
                raise UnknownNode(run_id, key)
            task_id = str(NodeId(run_id, row.number, row.attempt))
            return NodeState(row.state), Given(row.node_key, task_id, row.result, bool(row.by_reference))

        return self.database.look(read)


def _runs(connection: Connection, rows: list[Row[Any]]) -> list[RunRow]:
    counts: dict[str, Counter[NodeState]] = {row.id: Counter() for row in rows}
    states = select(node.c.run_id, node.c.state, func.count().label("times")).where(node.c.run_id.in_(list(counts)))
    for found in connection.execute(states.group_by(node.c.run_id, node.c.state)):
        counts[found.run_id][NodeState(found.state)] = found.times
    return [
        RunRow(
            id=row.id,
            name=row.name,
            state=RunState(row.state),
            nodes=row.nodes,
            submitted_ms=row.submitted_ms,
            ended_ms=row.ended_ms,
            idempotency_key=row.idempotency_key,
            counts=dict(counts[row.id]),
        )
        for row in rows
    ]


def _node(row: Row[Any], after: tuple[int, ...]) -> NodeRow:
    return NodeRow(
        number=row.number,
        key=row.node_key,
        task=row.task,
        task_id=str(NodeId(row.run_id, row.number, row.attempt)),
        state=NodeState(row.state),
        attempt=row.attempt,
        after=after,
        queued_ms=row.queued_ms,
        started_ms=row.started_ms,
        ended_ms=row.ended_ms,
        error=row.error or "",
    )
