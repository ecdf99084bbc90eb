"""Locked run: what follows from the end of nodes, inside the transaction that ended them.

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
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    CursorResult,
    Executable,
    Row,
    Update,
    and_,
    bindparam,
    case,
    exists,
    func,
    select,
    update,
)

from celery_tw.core.dag_state import ENDED, RUN_ENDED, NodeState, OnFailure, Parent, RunState, Trigger, Verdict, decide, outcome
from celery_tw.core.node_id import NodeId
from celery_tw.errors import UnknownDagRun
from celery_tw.stores.sql.moves import Move
from celery_tw.stores.sql.tables import edge, node, run

CHUNK = 500
SUCCESSES = (Parent(NodeState.SUCCEEDED, OnFailure.BLOCK),)

# The statements are made once: making one takes longer than most of them take. Those for one node have no list, which costs as much again.


def _children(edges: ColumnElement[bool]) -> ColumnElement[bool]:
    return and_(node.c.run_id == _at_run, node.c.number.in_(select(edge.c.child).where(edges)))


_at_run: BindParameter[str] = bindparam("at_run")
_here = and_(node.c.run_id == _at_run, node.c.number.in_(bindparam("at", expanding=True)))
_just_here = and_(node.c.run_id == _at_run, node.c.number == bindparam("at"))
_edges = and_(edge.c.run_id == _at_run, edge.c.parent.in_(bindparam("ended", expanding=True)))
_edges_of_one = and_(edge.c.run_id == _at_run, edge.c.parent == bindparam("ended"))
_times = select(func.count()).where(_edges, edge.c.child == node.c.number).correlate(node).scalar_subquery()
_due = and_(node.c.unresolved == 0, node.c.state == NodeState.PENDING)
_ended_otherwise = node.alias("ended_otherwise")
_not_all_well = exists(
    select(_ended_otherwise.c.state).where(
        _ended_otherwise.c.run_id == _at_run, _ended_otherwise.c.state.in_(sorted(ENDED - {NodeState.SUCCEEDED}))
    )
).label("not_all_well")
_ways = (node.c.number, node.c.attempt, node.c.node_key, node.c.signature, node.c.args_from, node.c.for_each, node.c.trigger_rule)
_ways_if_due = (*_ways[:3], case((_due, node.c.signature)).label("signature"), *_ways[4:])
_how_it_stands: tuple[Any, ...] = (run.c.id, run.c.name, run.c.entry, run.c.state, run.c.open_nodes, run.c.ended_ms)


def _counting_down(edges: ColumnElement[bool], times: ColumnElement[int] | int) -> Move:
    """Return the move whose rows are children; those that are *due* wait for nobody any more."""
    return Move(
        update(node).where(_children(edges)).values(unresolved=node.c.unresolved - times),
        read=select(*_ways, _due.label("due"), _not_all_well).where(_children(edges), _due),
        returns=(*_ways_if_due, _due.label("due"), _not_all_well),
    )


_LOCK = select(*_how_it_stands).where(run.c.id == _at_run).with_for_update()
_LOCK_FOR_END = Move(
    update(run).where(run.c.id == _at_run).values(open_nodes=run.c.open_nodes - 1),
    read=select(*_how_it_stands).where(run.c.id == _at_run),
)
_COUNT_DOWN = _counting_down(_edges_of_one, 1)
_COUNT_SEVERAL_DOWN = _counting_down(_edges, _times)
_NODES = select(*_ways).where(_here)
_RESULTS = select(node.c.number, node.c.attempt, node.c.node_key, node.c.result, node.c.by_reference).where(_here)
_ENDS = select(node.c.state, node.c.on_failure).where(node.c.run_id == _at_run).distinct()
_PARENTS = (
    select(edge.c.child, node.c.state, node.c.on_failure)
    .select_from(edge.join(node, and_(node.c.run_id == edge.c.run_id, node.c.number == edge.c.parent)))
    .where(edge.c.run_id == _at_run, edge.c.child.in_(bindparam("at", expanding=True)))
    .distinct()
)
_CLOSE = (
    update(run)
    .where(run.c.id == _at_run)
    .values(open_nodes=bindparam("new_open_nodes"), state=bindparam("new_state"), ended_ms=bindparam("new_ended_ms"))
)


@lru_cache
def _changing(names: tuple[str, ...], *, one: bool) -> Update:
    return update(node).where(_just_here if one else _here).values({name: bindparam(f"new_{name}") for name in names})


@dataclass(frozen=True, slots=True)
class Given:
    """The result of a parent, for its child: *value* is JSON or None; *by_reference* tells to ask the result backend for *task_id*."""

    key: str
    task_id: str
    value: str | None
    by_reference: bool


@dataclass(frozen=True, slots=True)
class Released:
    """A node to be sent, at once or at *due_ms*."""

    id: NodeId
    dag: str
    key: str
    signature: str
    args_from: tuple[Given, ...] = ()
    for_each: Given | None = None
    due_ms: int | None = None


class LockedRun:
    """One run, locked, in one transaction; *counted* nodes are counted as ended already in its *row*."""

    def __init__(self, connection: Connection, row: Row[Any], *, now_ms: int, counted: int = 0) -> None:
        self.connection = connection
        self.run_id: str = row.id
        self.dag: str = row.name
        self.entry: str | None = row.entry
        self.state = RunState(row.state)
        self.open_nodes: int = row.open_nodes + counted
        self.ended_ms: int | None = row.ended_ms
        self.now_ms = now_ms
        self._stands = (row.open_nodes, self.state, self.ended_ms)
        self._to_send: list[int] = []
        self._rows: dict[int, Row[Any]] = {}
        self._all_succeeded: set[int] = set()
        self._due_ms: dict[int, int | None] = {}
        self._results: dict[int, Given] = {}

    @classmethod
    def lock(cls, connection: Connection, run_id: str, *, now_ms: int) -> "LockedRun":
        """Lock the run; raises `UnknownDagRun`."""
        row = connection.execute(_LOCK, {"at_run": run_id}).one_or_none()
        if row is None:
            raise UnknownDagRun(run_id)
        return cls(connection, row, now_ms=now_ms)

    @classmethod
    def lock_for_end(cls, connection: Connection, run_id: str, *, now_ms: int) -> "LockedRun":
        """Lock the run and count one of its nodes as ended in the same write; `close` takes that back where none did.

        Raises `UnknownDagRun`.
        """
        rows = _LOCK_FOR_END.make(connection, {"at_run": run_id})
        if not rows:
            raise UnknownDagRun(run_id)
        return cls(connection, rows[0], now_ms=now_ms, counted=1)

    # Moves

    def change(self, numbers: Iterable[int], **values: Any) -> None:
        """Write *values* into those nodes."""
        new = {f"new_{name}": value for name, value in values.items()}
        for chunk in chunks(sorted(numbers)):
            one = len(chunk) == 1
            self._execute(_changing(tuple(values), one=one), at=chunk[0] if one else chunk, **new)

    def queue(self, numbers: Sequence[int], *, due_ms: int | None = None) -> None:
        """Let those nodes run: now, at *due_ms*, or when the run is resumed."""
        if self.state is RunState.RUNNING:
            self.change(numbers, state=NodeState.QUEUED, queued_ms=self.now_ms, delivery=-1, not_before_ms=due_ms)
            self._to_send += numbers
            self._due_ms |= dict.fromkeys(numbers, due_ms)
        else:
            self.change(numbers, state=NodeState.READY)

    def end(self, numbers: Sequence[int]) -> None:
        """Take note that those nodes have ended, and of all that follows."""
        ended = list(numbers)
        while ended:
            self.open_nodes -= len(ended)
            ended = self.decide(self._count_down(ended))

    def keep(self, number: int, result: Given) -> None:
        """Remember the result of a node, which was written in this very transaction, for its children."""
        self._results[number] = result

    def decide(self, numbers: Sequence[int]) -> list[int]:
        """Decide those nodes, whose parents have all ended; return which of them will not run and have ended so."""
        parents = self._parents([number for number in numbers if number not in self._all_succeeded])
        verdicts = defaultdict(list)
        for row in self._read(numbers):
            trigger = Trigger(row.trigger_rule) if row.trigger_rule else None
            verdicts[decide(trigger, parents.get(row.number, SUCCESSES))].append(row.number)
        self.queue(verdicts[Verdict.RUN])
        self.change(verdicts[Verdict.SKIP], state=NodeState.SKIPPED, ended_ms=self.now_ms)
        self.change(verdicts[Verdict.BLOCK], state=NodeState.BLOCKED, ended_ms=self.now_ms)
        return verdicts[Verdict.SKIP] + verdicts[Verdict.BLOCK]

    def close(self) -> list[Released]:
        """Write how the run stands, and return what is to be sent."""
        if self.state in (RunState.RUNNING, RunState.PAUSED) and self.open_nodes == 0:
            self.state = outcome(self._ends())
        ended_ms = (self.ended_ms or self.now_ms) if self.state in RUN_ENDED else None
        if self._stands != (self.open_nodes, self.state, ended_ms):
            self._execute(_CLOSE, new_open_nodes=self.open_nodes, new_state=self.state, new_ended_ms=ended_ms)
        rows = self._read(self._to_send)
        given = self._given(sorted({number for row in rows for number in _givers(row)}))
        return [self._release(row, given) for row in rows]

    # Looks

    def _execute(self, statement: Executable, **values: Any) -> CursorResult[Any]:
        return self.connection.execute(statement, {"at_run": self.run_id, **values})

    def _count_down(self, ended: Sequence[int]) -> list[int]:
        """Count the children of *ended* down; return those that wait for nobody any more."""
        due: dict[int, Row[Any]] = {}
        for chunk in chunks(ended):
            one = len(chunk) == 1
            move = _COUNT_DOWN if one else _COUNT_SEVERAL_DOWN
            children = move.make(self.connection, {"at_run": self.run_id, "ended": chunk[0] if one else chunk})
            due |= {row.number: row for row in children if row.due}
        self._rows |= due
        self._all_succeeded |= {number for number, row in due.items() if not row.not_all_well}
        return sorted(due)

    def _read(self, numbers: Sequence[int]) -> list[Row[Any]]:
        """Return the rows of those nodes, as far as they say how to run them."""
        for chunk in chunks([number for number in numbers if number not in self._rows]):
            self._rows |= {row.number: row for row in self._execute(_NODES, at=chunk)}
        return [self._rows[number] for number in numbers]

    def _parents(self, numbers: Sequence[int]) -> defaultdict[int, list[Parent]]:
        """Return the parents of each node that has any, equal ones once."""
        parents: defaultdict[int, list[Parent]] = defaultdict(list)
        for chunk in chunks(numbers):
            for row in self._execute(_PARENTS, at=chunk):
                parents[row.child].append(Parent(NodeState(row.state), OnFailure(row.on_failure)))
        return parents

    def _ends(self) -> Iterator[Parent]:
        for row in self._execute(_ENDS):
            yield Parent(NodeState(row.state), OnFailure(row.on_failure))

    def _release(self, row: Row[Any], given: Mapping[int, Given]) -> Released:
        return Released(
            id=NodeId(self.run_id, row.number, row.attempt),
            dag=self.dag,
            key=row.node_key,
            signature=row.signature,
            args_from=tuple(given[number] for number in json.loads(row.args_from)),
            for_each=None if row.for_each is None else given[row.for_each],
            due_ms=self._due_ms[row.number],
        )

    def _given(self, numbers: Sequence[int]) -> dict[int, Given]:
        for chunk in chunks([number for number in numbers if number not in self._results]):
            for row in self._execute(_RESULTS, at=chunk):
                task_id = str(NodeId(self.run_id, row.number, row.attempt))
                self.keep(row.number, Given(row.node_key, task_id, row.result, bool(row.by_reference)))
        return self._results


def _givers(row: Row[Any]) -> list[int]:
    return [*json.loads(row.args_from), *([] if row.for_each is None else [row.for_each])]


def chunks(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    """Yield *numbers* in parts that fit into one statement."""
    for start in range(0, len(numbers), CHUNK):
        yield numbers[start : start + CHUNK]
