"""Progress: what the processes that run nodes tell of them.

Every verb is about one attempt. What an earlier one has to say, or anything about a node that has ended, is refused, and changes nothing;
so each may be said twice, by two processes, or too late.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Connection, Row, Update, and_, bindparam, case, exists, or_, select, update

from celery_tw.core.dag_state import NodeState, RunState
from celery_tw.core.node_id import NodeId
from celery_tw.core.retry_delay import retry_delay_ms
from celery_tw.errors import UnknownDagRun
from celery_tw.stores.sql.database import Database
from celery_tw.stores.sql.locked_run import Given, LockedRun, Released
from celery_tw.stores.sql.moves import Move
from celery_tw.stores.sql.tables import node, run


@dataclass(frozen=True, slots=True)
class Ended:
    """How an attempt of a node ended: *result* is JSON, unless it is *by_reference* in the result backend.

    *final* is an end after which the node is not tried again.
    """

    state: NodeState
    result: str | None = None
    by_reference: bool = False
    error: str = ""
    final: bool = False


@dataclass(frozen=True, slots=True)
class Settled:
    """What came of an end: whether it was *accepted*, the node's and the run's state now, and what is to be sent.

    *entry* is what the run counts as a fire of.
    """

    accepted: bool
    released: tuple[Released, ...] = ()
    state: NodeState | None = None
    run_state: RunState | None = None
    key: str = ""
    dag: str = ""
    entry: str | None = None


REFUSED = Settled(False)
RETRYING: tuple[Any, ...] = (node.c.retries, node.c.retries_left, node.c.retry_delay_ms)

_this = and_(node.c.run_id == bindparam("at_run"), node.c.number == bindparam("at_number"), node.c.attempt == bindparam("at_attempt"))
_lives = exists(select(run.c.id).where(run.c.id == bindparam("at_run"), run.c.state != RunState.CANCELLED))
_retries: BindParameter[int] = bindparam("new_delivery")
_running = node.c.state == NodeState.RUNNING
_under_way = or_(_running, node.c.state == NodeState.QUEUED)


def _starting(again: ColumnElement[bool]) -> Update:
    may = or_(and_(node.c.state == NodeState.QUEUED, node.c.delivery <= _retries), again)
    moved = {"state": NodeState.RUNNING, "delivery": _retries, "beat": node.c.beat + 1, "started_ms": bindparam("now_ms")}
    return update(node).where(_this, may, _lives).values(not_before_ms=None, **moved)


_START = _starting(and_(_running, node.c.delivery < _retries))
_START_ALONE = _starting(_running)
_UNDER_WAY = select(node.c.node_key, *RETRYING).where(_this, _under_way)
_END = Move(
    update(node)
    .where(_this, _under_way)
    .values(not_before_ms=None, **{name: bindparam(f"new_{name}") for name in ("state", "result", "by_reference", "error", "ended_ms")}),
    read=select(node.c.node_key).where(_this),
)
_WAITING = select(node.c.number).where(_this, node.c.state == NodeState.QUEUED, node.c.not_before_ms.is_not(None))


class Progress:
    """Moves nodes along."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def start(self, node_id: NodeId, *, retries: int, alone: bool, now_ms: int) -> bool:
        """Return whether the body of this copy of a node's message may run.

        One copy at a time: another starts only after the node was queued again, or as the next of Celery's own *retries*. *alone* tells
        that the task's base has made sure already that no other copy runs.
        """
        values = {"new_delivery": retries, "now_ms": now_ms, **_at(node_id)}
        statement = _START_ALONE if alone else _START
        return self.database.note(lambda connection: connection.execute(statement, values).rowcount == 1)

    def beat(self, ids: Iterable[NodeId]) -> None:
        """Tell that those nodes are running still, be it that the database has forgotten that they began."""
        alive = or_(*(_is(each) for each in ids))
        delivery = case((node.c.delivery < 0, 0), else_=node.c.delivery)
        statement = update(node).where(alive, _under_way).values(beat=node.c.beat + 1, state=NodeState.RUNNING, delivery=delivery)
        self.database.note(lambda connection: connection.execute(statement))

    def wait_on(self, ids: Iterable[NodeId], *, until_ms: int) -> None:
        """Tell that something of those nodes runs, and that nobody else need say so until *until_ms*."""
        alive = or_(*(_is(each) for each in ids))
        statement = update(node).where(alive, _under_way).values(beat=node.c.beat + 1, state=NodeState.RUNNING, not_before_ms=until_ms)
        self.database.note(lambda connection: connection.execute(statement))

    def wait(self, node_id: NodeId, *, until_ms: int) -> None:
        """Tell that Celery retries the node's task, at *until_ms*."""
        statement = update(node).where(_is(node_id), node.c.state == NodeState.RUNNING).values(not_before_ms=until_ms, beat=node.c.beat + 1)
        self.database.transaction(lambda connection: connection.execute(statement))

    def give_back(self, node_id: NodeId) -> None:
        """Tell that the node's message went back to the broker, which will bring it again."""
        statement = update(node).where(_is(node_id), node.c.state == NodeState.RUNNING).values(state=NodeState.QUEUED, delivery=-1)
        self.database.transaction(lambda connection: connection.execute(statement))

    def let_go(self, node_id: NodeId, *, now_ms: int) -> list[Released]:
        """Return a node that waits for its next attempt as one to be sent now; nothing, when it does not wait any more.

        In a paused run it waits for the run to be resumed instead.
        """

        def write(connection: Connection) -> list[Released]:
            try:
                locked = LockedRun.lock(connection, node_id.run_id, now_ms=now_ms)
            except UnknownDagRun:
                return []
            if connection.execute(_WAITING, _at(node_id)).one_or_none() is None:
                return []
            locked.queue([node_id.number])
            return locked.close()

        return self.database.transaction(write)

    def end(self, node_id: NodeId, ended: Ended, *, now_ms: int) -> Settled:
        """Put the end of an attempt on record, with all that follows from it."""

        def write(connection: Connection) -> Settled:
            try:
                locked = LockedRun.lock_for_end(connection, node_id.run_id, now_ms=now_ms)
            except UnknownDagRun:
                return REFUSED
            return _failed(locked, node_id, ended) if ended.state is NodeState.FAILED else _done(locked, node_id, ended)

        return self.database.transaction(write)


def _done(locked: LockedRun, node_id: NodeId, ended: Ended) -> Settled:
    """End an attempt that need not be tried again, if it is under way."""
    written = {f"new_{name}": value for name, value in _written(ended).items()}
    found = _END.make(locked.connection, {**_at(node_id), **written, "new_ended_ms": locked.now_ms})
    if not found:
        return _refused(locked)
    key = found[0].node_key
    locked.keep(node_id.number, Given(key, str(node_id), ended.result, ended.by_reference))
    locked.end([node_id.number])
    return settled(locked, key, ended.state)


def _failed(locked: LockedRun, node_id: NodeId, ended: Ended) -> Settled:
    """End an attempt that failed, if it is under way, or let the next one begin."""
    found = locked.connection.execute(_UNDER_WAY, _at(node_id)).one_or_none()
    if found is None:
        return _refused(locked)
    cancelled = locked.state is RunState.CANCELLED
    if not cancelled and not ended.final and found.retries_left > 0:
        retry(locked, node_id, found, error=ended.error)
        return settled(locked, found.node_key, NodeState.QUEUED)
    how = replace(ended, state=NodeState.CANCELLED) if cancelled else ended
    finish(locked, node_id.number, how)
    return settled(locked, found.node_key, how.state)


def _refused(locked: LockedRun) -> Settled:
    locked.close()
    return REFUSED


def settled(locked: LockedRun, key: str, state: NodeState | None) -> Settled:
    """Close *locked*, which has moved the node *key* to *state*, and return what came of it."""
    released = tuple(locked.close())
    return Settled(True, released, state, locked.state, key, locked.dag, locked.entry)


def retry(locked: LockedRun, node_id: NodeId, found: Row[Any], *, error: str) -> None:
    """Send a node again, as its next attempt, when its delay is over; *found* has its `RETRYING`."""
    left = found.retries_left - 1
    values = {"attempt": node_id.attempt + 1, "retries_left": left, "error": error, "started_ms": None, "sends": 0, "losses": 0}
    locked.change([node_id.number], **values)
    delay_ms = retry_delay_ms(found.retry_delay_ms or 0, failures=found.retries - left)
    locked.queue([node_id.number], due_ms=locked.now_ms + delay_ms if delay_ms else None)


def finish(locked: LockedRun, number: int, ended: Ended) -> None:
    """End a node for good."""
    locked.change([number], ended_ms=locked.now_ms, not_before_ms=None, **_written(ended))
    locked.end([number])


def _written(ended: Ended) -> dict[str, Any]:
    return {"state": ended.state, "result": ended.result, "by_reference": int(ended.by_reference), "error": ended.error or None}


def _is(node_id: NodeId) -> ColumnElement[bool]:
    return and_(node.c.run_id == node_id.run_id, node.c.number == node_id.number, node.c.attempt == node_id.attempt)


def _at(node_id: NodeId) -> dict[str, Any]:
    return {"at_run": node_id.run_id, "at_number": node_id.number, "at_attempt": node_id.attempt}
