"""Sweeping: what the leader does for nodes that nobody speaks for. Every write checks its epoch in the same transaction."""

from dataclasses import dataclass

from sqlalchemy import Connection, and_, delete, or_, select, update

from celery_tw.core.dag_state import UNDER_WAY, NodeState, RunState
from celery_tw.core.node_id import NodeId
from celery_tw.errors import StaleEpoch
from celery_tw.stores.sql.database import Database
from celery_tw.stores.sql.locked_run import LockedRun
from celery_tw.stores.sql.progress import REFUSED, RETRYING, Ended, Settled, finish, retry, settled
from celery_tw.stores.sql.tables import fence, node, run

READ_AT_MOST = 100_000
DELETED_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class Pulse:
    """A node under way, as last written: it moves whenever *state*, *beat* or *sends* do."""

    id: NodeId
    state: NodeState
    beat: int
    sends: int
    not_before_ms: int | None
    task: str


@dataclass(frozen=True, slots=True)
class CountedRun:
    """A run that counts as a fire of *entry* until it has ended."""

    id: str
    entry: str
    state: RunState


class Sweeping:
    """The leader's verbs on one namespace."""

    def __init__(self, database: Database, namespace: str) -> None:
        self.database = database
        self.namespace = namespace

    def pulses(self) -> list[Pulse]:
        """Return the nodes that are queued or running."""

        def read(connection: Connection) -> list[Pulse]:
            columns = (
                node.c.run_id,
                node.c.number,
                node.c.attempt,
                node.c.state,
                node.c.beat,
                node.c.sends,
                node.c.not_before_ms,
                node.c.task,
            )
            mine = and_(run.c.id == node.c.run_id, run.c.namespace == self.namespace)
            rows = select(*columns).select_from(node.join(run, mine)).where(node.c.state.in_(sorted(UNDER_WAY))).limit(READ_AT_MOST)
            return [
                Pulse(NodeId(row.run_id, row.number, row.attempt), NodeState(row.state), row.beat, row.sends, row.not_before_ms, row.task)
                for row in connection.execute(rows)
            ]

        return self.database.look(read)

    def send_again(self, pulse: Pulse, *, epoch: int, most: int, now_ms: int) -> Settled:
        """Queue a silent node again, as the same attempt; one lost more than *most* times has failed. Raises `StaleEpoch`.

        A node that moved since *pulse* was taken is left alone.
        """

        def write(connection: Connection) -> Settled:
            self._check(connection, epoch)
            locked = LockedRun.lock(connection, pulse.id.run_id, now_ms=now_ms)
            unmoved = and_(node.c.state == pulse.state, node.c.beat == pulse.beat, node.c.sends == pulse.sends)
            here = and_(node.c.run_id == pulse.id.run_id, node.c.number == pulse.id.number, node.c.attempt == pulse.id.attempt, unmoved)
            found = connection.execute(select(node.c.losses, node.c.node_key, *RETRYING).where(here).with_for_update()).one_or_none()
            if found is None:
                return REFUSED
            lost = pulse.state is NodeState.RUNNING
            if lost and locked.state is RunState.CANCELLED:
                finish(locked, pulse.id.number, Ended(NodeState.CANCELLED))
            elif lost and found.losses >= most and found.retries_left > 0:
                retry(locked, pulse.id, found, error=_lost(found.losses))
            elif lost and found.losses >= most:
                finish(locked, pulse.id.number, Ended(NodeState.FAILED, error=_lost(found.losses)))
            else:
                locked.change([pulse.id.number], sends=pulse.sends + 1, losses=found.losses + lost, beat=pulse.beat + 1)
                locked.queue([pulse.id.number])
            return settled(locked, found.node_key, None)

        return self.database.transaction(write)

    def counted_runs(self, *, ended_after_ms: int) -> list[CountedRun]:
        """Return the runs that count as fires of entries: those that have not ended, and those that ended after *ended_after_ms*."""

        def read(connection: Connection) -> list[CountedRun]:
            lately = or_(run.c.ended_ms.is_(None), run.c.ended_ms > ended_after_ms)
            rows = select(run.c.id, run.c.entry, run.c.state).where(run.c.namespace == self.namespace, lately, run.c.entry.is_not(None))
            return [CountedRun(row.id, row.entry, RunState(row.state)) for row in connection.execute(rows.limit(READ_AT_MOST))]

        return self.database.look(read)

    def forget(self, *, before_ms: int, epoch: int) -> int:
        """Delete a few of the runs that ended before *before_ms*; return how many. Raises `StaleEpoch`."""

        def write(connection: Connection) -> int:
            self._check(connection, epoch)
            old = select(run.c.id).where(run.c.namespace == self.namespace, run.c.ended_ms < before_ms).limit(DELETED_AT_ONCE)
            ids = list(connection.execute(old).scalars())
            connection.execute(delete(run).where(run.c.id.in_(ids)))
            return len(ids)

        return self.database.transaction(write)

    def _check(self, connection: Connection, epoch: int) -> None:
        """Go on as the leader of *epoch*, unless a later one has been here."""
        stored = connection.execute(select(fence.c.epoch).where(fence.c.namespace == self.namespace).with_for_update()).scalar()
        if stored is None:
            connection.execute(fence.insert().values(namespace=self.namespace, epoch=epoch))
        elif stored > epoch:
            raise StaleEpoch(f"the database has seen the leader of epoch {stored}; this one is of epoch {epoch}")
        elif stored < epoch:
            connection.execute(update(fence).where(fence.c.namespace == self.namespace).values(epoch=epoch))


def _lost(losses: int) -> str:
    return f"lost: its process fell silent {losses + 1} times"
