"""Settling: what follows from the end of nodes, inside the transaction that ended them.

::

    nodes ended ─▶ count down their children ─▶ decide those whose last parent ended ─▶ run: queued, to be sent
                        ▲                                                           └▶ skip, block: they have ended, too
                        └───────────────────────────────────────────────────────────────┘

The run's row is locked for the whole of it. What is *released* here is sent after the commit; a sender that dies in between is made up for
by the leader's sweep, which finds nodes that are queued and never start.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, and_, func, select, update

from celery_tw.core.dag_state import ENDED, NodeState, OnFailure, Parent, RunState, Trigger, Verdict, decide, outcome
from celery_tw.core.node_id import NodeId
from celery_tw.errors import UnknownDagRun
from celery_tw.stores.sql.tables import edge, node, run

CHUNK = 500
ENDED_STATES = sorted(ENDED)


@dataclass(frozen=True, slots=True)
class Given:
    """The result of a parent, for its child: *value* is JSON or None; *by_reference* tells to ask the result backend for *task_id*."""

    key: str
    task_id: str
    value: str | None
    by_reference: bool


@dataclass(frozen=True, slots=True)
class Released:
    """A node to be sent."""

    id: NodeId
    dag: str
    key: str
    signature: str
    args_from: tuple[Given, ...] = ()
    for_each: Given | None = None


class Settling:
    """One run, locked, in one transaction; *released* is what is to be sent when it is committed."""

    def __init__(self, connection: Connection, locked: Row[Any], *, now_ms: int) -> None:
        self.connection = connection
        self.run_id: str = locked.id
        self.dag: str = locked.name
        self.state = RunState(locked.state)
        self.open_nodes: int = locked.open_nodes
        self.now_ms = now_ms
        self._to_send: list[int] = []

    @classmethod
    def lock(cls, connection: Connection, run_id: str, *, now_ms: int) -> "Settling":
        """Lock the run; raises `UnknownDagRun`."""
        locked = connection.execute(select(run).where(run.c.id == run_id).with_for_update()).one_or_none()
        if locked is None:
            raise UnknownDagRun(run_id)
        return cls(connection, locked, now_ms=now_ms)

    # Moves

    def change(self, numbers: Iterable[int], **values: Any) -> None:
        """Write *values* into those nodes."""
        for chunk in chunks(sorted(numbers)):
            self.connection.execute(update(node).where(node.c.run_id == self.run_id, node.c.number.in_(chunk)).values(**values))

    def queue(self, numbers: Sequence[int]) -> None:
        """Let those nodes run: now, or when the run is resumed."""
        if self.state is RunState.RUNNING:
            self.change(numbers, state=NodeState.QUEUED, queued_ms=self.now_ms, delivery=-1, not_before_ms=None)
            self._to_send += numbers
        else:
            self.change(numbers, state=NodeState.READY)

    def end(self, numbers: Sequence[int]) -> None:
        """Take note that those nodes have ended, and of all that follows."""
        ended = list(numbers)
        while ended:
            self.open_nodes -= len(ended)
            ended = self.decide(self._count_down(ended))

    def decide(self, numbers: Sequence[int]) -> list[int]:
        """Decide those nodes, whose parents have all ended; return which of them will not run and have ended so."""
        verdicts = defaultdict(list)
        for number, trigger, parents in self._with_parents(numbers):
            verdicts[decide(trigger, parents)].append(number)
        self.queue(verdicts[Verdict.RUN])
        self.change(verdicts[Verdict.SKIP], state=NodeState.SKIPPED, ended_ms=self.now_ms)
        self.change(verdicts[Verdict.BLOCK], state=NodeState.BLOCKED, ended_ms=self.now_ms)
        return verdicts[Verdict.SKIP] + verdicts[Verdict.BLOCK]

    def close(self) -> list[Released]:
        """Write how the run stands, and return what is to be sent."""
        values: dict[str, Any] = {"open_nodes": self.open_nodes, "state": self.state}
        if self.state not in (RunState.RUNNING, RunState.PAUSED):
            values["ended_ms"] = func.coalesce(run.c.ended_ms, self.now_ms)
        elif self.open_nodes == 0:
            self.state = outcome(self._ends())
            values |= {"state": self.state, "ended_ms": self.now_ms}
        else:
            values["ended_ms"] = None
        self.connection.execute(update(run).where(run.c.id == self.run_id).values(**values))
        return self._released()

    # Looks

    def _count_down(self, ended: Sequence[int]) -> list[int]:
        """Count the children of *ended* down; return those that wait for nobody any more."""
        due: list[int] = []
        for chunk in chunks(ended):
            mine = and_(edge.c.run_id == self.run_id, edge.c.parent.in_(chunk))
            times = select(func.count()).where(mine, edge.c.child == node.c.number).scalar_subquery() if len(chunk) > 1 else 1
            children = select(edge.c.child).where(mine)
            here = and_(node.c.run_id == self.run_id, node.c.number.in_(children))
            self.connection.execute(update(node).where(here).values(unresolved=node.c.unresolved - times))
            free = select(node.c.number).where(here, node.c.unresolved == 0, node.c.state == NodeState.PENDING)
            due += self.connection.execute(free).scalars()
        return sorted(set(due))

    def _with_parents(self, numbers: Sequence[int]) -> Iterator[tuple[int, Trigger | None, list[Parent]]]:
        """Yield each node with its trigger and its parents."""
        for chunk in chunks(numbers):
            triggers = self.connection.execute(
                select(node.c.number, node.c.trigger_rule).where(node.c.run_id == self.run_id, node.c.number.in_(chunk))
            ).all()
            joined = edge.join(node, and_(node.c.run_id == edge.c.run_id, node.c.number == edge.c.parent))
            facts = (
                select(edge.c.child, node.c.state, node.c.on_failure, func.count().label("times"))
                .select_from(joined)
                .where(edge.c.run_id == self.run_id, edge.c.child.in_(chunk))
                .group_by(edge.c.child, node.c.state, node.c.on_failure)
            )
            parents: defaultdict[int, list[Parent]] = defaultdict(list)
            for fact in self.connection.execute(facts):
                parents[fact.child].append(Parent(NodeState(fact.state), OnFailure(fact.on_failure)))
            for number, trigger in triggers:
                yield number, Trigger(trigger) if trigger else None, parents[number]

    def _ends(self) -> Iterator[Parent]:
        kinds = select(node.c.state, node.c.on_failure).where(node.c.run_id == self.run_id).distinct()
        for state, on_failure in self.connection.execute(kinds):
            yield Parent(NodeState(state), OnFailure(on_failure))

    def _released(self) -> list[Released]:
        columns = (node.c.number, node.c.attempt, node.c.node_key, node.c.signature, node.c.args_from, node.c.for_each)
        rows: list[Row[Any]] = []
        for chunk in chunks(self._to_send):
            rows += self.connection.execute(select(*columns).where(node.c.run_id == self.run_id, node.c.number.in_(chunk)))
        givers = {number for row in rows for number in _givers(row)}
        given = self._given(sorted(givers))
        return [self._release(row, given) for row in rows]

    def _release(self, row: Row[Any], given: Mapping[int, Given]) -> Released:
        return Released(
            id=NodeId(self.run_id, row.number, row.attempt),
            dag=self.dag,
            key=row.node_key,
            signature=row.signature,
            args_from=tuple(given[number] for number in json.loads(row.args_from)),
            for_each=None if row.for_each is None else given[row.for_each],
        )

    def _given(self, numbers: Sequence[int]) -> dict[int, Given]:
        given = {}
        columns = (node.c.number, node.c.attempt, node.c.node_key, node.c.result, node.c.by_reference)
        for chunk in chunks(numbers):
            for row in self.connection.execute(select(*columns).where(node.c.run_id == self.run_id, node.c.number.in_(chunk))):
                task_id = str(NodeId(self.run_id, row.number, row.attempt))
                given[row.number] = Given(row.node_key, task_id, row.result, bool(row.by_reference))
        return given


def _givers(row: Row[Any]) -> list[int]:
    return [*json.loads(row.args_from), *([] if row.for_each is None else [row.for_each])]


def chunks(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    """Yield *numbers* in parts that fit into one statement."""
    for start in range(0, len(numbers), CHUNK):
        yield numbers[start : start + CHUNK]
