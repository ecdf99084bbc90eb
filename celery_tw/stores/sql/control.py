"""Control: what a person does with a run: pause, resume, cancel, retry from a node, mark a node done.

A node that is to run again begins a new attempt, and so does all that comes after it: whatever is still under way for an older attempt has
nothing to say any more. Countdowns are not turned back but counted anew, from the states of the parents.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, select, update

from celery_tw.core.dag_state import ENDED, RUN_ENDED, NodeState, RunState
from celery_tw.core.graph import descendants
from celery_tw.core.node_id import NodeId
from celery_tw.errors import InvalidDag, UnknownNode
from celery_tw.stores.sql.database import Database
from celery_tw.stores.sql.locked_run import LockedRun, Released
from celery_tw.stores.sql.tables import edge, node

AGAIN = (NodeState.FAILED, NodeState.BLOCKED, NodeState.CANCELLED)
UNRUN = (NodeState.BLOCKED, NodeState.SKIPPED, NodeState.CANCELLED, NodeState.PENDING)
"""Pending ones are among them, for they are to wait again for those of their parents that are decided anew."""


@dataclass(frozen=True, slots=True)
class Changed:
    """What a verb did: *released* is to be sent, *running* are the nodes that run on and may be asked to stop.

    *entry* is what the run counts as a fire of.
    """

    state: RunState
    released: tuple[Released, ...] = ()
    running: tuple[NodeId, ...] = ()
    entry: str | None = None


class Control:
    """Changes runs at a person's word. Each verb raises `UnknownDagRun`."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def pause(self, run_id: str, *, now_ms: int) -> Changed:
        """Let no further node begin; what runs, runs on. Raises `InvalidDag` for a run that has ended."""

        def move(locked: LockedRun) -> Changed:
            _refuse_ended(locked, "paused")
            locked.state = RunState.PAUSED
            return _closed(locked)

        return self._verb(run_id, move, now_ms=now_ms)

    def resume(self, run_id: str, *, now_ms: int) -> Changed:
        """Let nodes begin again, those first that became ready meanwhile; raises `InvalidDag` for a run that has ended."""

        def move(locked: LockedRun) -> Changed:
            _refuse_ended(locked, "resumed")
            locked.state = RunState.RUNNING
            locked.queue(_numbers(locked, NodeState.READY))
            return _closed(locked)

        return self._verb(run_id, move, now_ms=now_ms)

    def cancel(self, run_id: str, *, now_ms: int) -> Changed:
        """Let no further node begin, ever, unless it is retried; raises `InvalidDag` for a run that has ended otherwise."""

        def move(locked: LockedRun) -> Changed:
            if locked.state is not RunState.CANCELLED:
                _refuse_ended(locked, "cancelled")
            locked.state = RunState.CANCELLED
            waiting = _numbers(locked, NodeState.PENDING, NodeState.READY, NodeState.QUEUED)
            locked.change(waiting, state=NodeState.CANCELLED, ended_ms=now_ms)
            locked.open_nodes -= len(waiting)
            return _closed(locked, running=_running(locked))

        return self._verb(run_id, move, now_ms=now_ms)

    def retry(self, run_id: str, key: str | None, *, now_ms: int) -> Changed:
        """Run the node *key* again, and all that comes after it; without a key each that failed, is blocked or was cancelled.

        Raises `UnknownNode`, and `InvalidDag` when there is nothing that could be run again.
        """

        def move(locked: LockedRun) -> Changed:
            chosen = [_ended_node(locked, key)] if key is not None else _numbers(locked, *AGAIN)
            forced = set(chosen) if key is not None else set(_numbers(locked, NodeState.FAILED))
            if not chosen:
                raise InvalidDag(f"the run {run_id} has no node that failed, is blocked or was cancelled")
            due = self._reopen(locked, chosen, within=None)
            locked.queue(sorted(due & forced))
            locked.end(locked.decide(sorted(due - forced)))
            return _closed(locked)

        return self._verb(run_id, move, now_ms=now_ms)

    def mark_done(self, run_id: str, key: str, result: str | None, *, now_ms: int) -> Changed:
        """Take the node *key* for succeeded, with *result* (JSON); what was blocked or skipped because of it is decided anew.

        Raises `UnknownNode`, and `InvalidDag` for a node that succeeded by itself.
        """

        def move(locked: LockedRun) -> Changed:
            number, state, attempt = _node(locked, key)
            if state is NodeState.SUCCEEDED:
                raise InvalidDag(f"node {key!r} of the run {run_id} has succeeded already")
            values = {"state": NodeState.SUCCEEDED, "result": result, "by_reference": 0, "error": None, "attempt": attempt + 1}
            locked.change([number], ended_ms=now_ms, **values)
            if state in ENDED:
                due = self._reopen(locked, [number], within=UNRUN, itself=False)
                locked.end(locked.decide(sorted(due)))
            else:
                locked.end([number])
            return _closed(locked)

        return self._verb(run_id, move, now_ms=now_ms)

    def _verb(self, run_id: str, move: Callable[[LockedRun], Changed], *, now_ms: int) -> Changed:
        return self.database.transaction(lambda connection: move(LockedRun.lock(connection, run_id, now_ms=now_ms)))

    def _reopen(self, locked: LockedRun, chosen: Iterable[int], *, within: tuple[NodeState, ...] | None, itself: bool = True) -> set[int]:
        """Make *chosen* and all after them wait for their parents again; return those that wait for nobody.

        *within* leaves descendants alone that are in no such state, *itself* says whether the chosen ones are meant, too.
        """
        graph = Graph.read(locked)
        chosen = set(chosen)
        after = descendants(chosen, graph.children) - chosen
        again = {number for number in after if within is None or graph.states[number] in within} | (chosen if itself else set())
        states = graph.states | dict.fromkeys(again, NodeState.PENDING)
        unresolved = {number: sum(states[parent] not in ENDED for parent in graph.parents[number]) for number in again}
        _write_again(locked, unresolved)
        locked.open_nodes = sum(state not in ENDED for state in states.values())
        if locked.state in RUN_ENDED:
            locked.state, locked.ended_ms = RunState.RUNNING, None
        return {number for number, count in unresolved.items() if count == 0}


@dataclass(frozen=True, slots=True)
class Graph:
    """A run's nodes and edges, by number."""

    states: dict[int, NodeState]
    parents: defaultdict[int, list[int]]
    children: defaultdict[int, list[int]]

    @classmethod
    def read(cls, locked: LockedRun) -> "Graph":
        """Read all of a run's graph; children of anything that does not end are counted again from it."""
        connection, run_id = locked.connection, locked.run_id
        states = connection.execute(select(node.c.number, node.c.state).where(node.c.run_id == run_id))
        graph = cls({number: NodeState(state) for number, state in states}, defaultdict(list), defaultdict(list))
        for parent, child in connection.execute(select(edge.c.parent, edge.c.child).where(edge.c.run_id == run_id)):
            graph.parents[child].append(parent)
            graph.children[parent].append(child)
        return graph


def _write_again(locked: LockedRun, unresolved: dict[int, int]) -> None:
    """Write nodes as those that have not run yet, each with a new attempt and the number of parents it waits for."""
    if not unresolved:
        return
    fresh: dict[str, Any] = dict.fromkeys(("result", "started_ms", "queued_ms", "ended_ms", "not_before_ms"))
    fresh |= {"state": NodeState.PENDING, "attempt": node.c.attempt + 1, "retries_left": node.c.retries, "by_reference": 0}
    fresh |= {"delivery": -1, "sends": 0, "losses": 0, "unresolved": bindparam("left")}
    statement = update(node).where(node.c.run_id == locked.run_id, node.c.number == bindparam("at")).values(**fresh)
    locked.connection.execute(statement, [{"at": number, "left": left} for number, left in sorted(unresolved.items())])


def _closed(locked: LockedRun, *, running: Iterable[NodeId] = ()) -> Changed:
    released = locked.close()
    return Changed(locked.state, tuple(released), tuple(running), locked.entry)


def _refuse_ended(locked: LockedRun, what: str) -> None:
    if locked.state in RUN_ENDED:
        raise InvalidDag(f"the run {locked.run_id} has ended ({locked.state}) and cannot be {what}")


def _numbers(locked: LockedRun, *states: NodeState) -> list[int]:
    rows = select(node.c.number).where(node.c.run_id == locked.run_id, node.c.state.in_(states))
    return sorted(locked.connection.execute(rows).scalars())


def _running(locked: LockedRun) -> list[NodeId]:
    rows = select(node.c.number, node.c.attempt).where(node.c.run_id == locked.run_id, node.c.state == NodeState.RUNNING)
    return [NodeId(locked.run_id, number, attempt) for number, attempt in locked.connection.execute(rows)]


def _node(locked: LockedRun, key: str) -> tuple[int, NodeState, int]:
    columns = select(node.c.number, node.c.state, node.c.attempt)
    row = locked.connection.execute(columns.where(node.c.run_id == locked.run_id, node.c.node_key == key)).one_or_none()
    if row is None:
        raise UnknownNode(locked.run_id, key)
    return row.number, NodeState(row.state), row.attempt


def _ended_node(locked: LockedRun, key: str) -> int:
    number, state, _ = _node(locked, key)
    if state not in ENDED:
        raise InvalidDag(f"node {key!r} of the run {locked.run_id} has not ended ({state}): it cannot be run again yet")
    return number
