"""Submitting: writes a run down whole, and keeps the definitions that entries submit."""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.exc import IntegrityError

from celery_tw.core.dag_spec import DagSpec, digest
from celery_tw.core.dag_state import NodeState, RunState
from celery_tw.errors import UnknownDagRun
from celery_tw.stores.sql.database import Database
from celery_tw.stores.sql.locked_run import LockedRun, Released
from celery_tw.stores.sql.tables import definition, edge, node, run


class Submitting:
    """Begins the runs of one namespace."""

    def __init__(self, database: Database, namespace: str) -> None:
        self.database = database
        self.namespace = namespace

    def submit(self, spec: DagSpec, *, run_id: str, idempotency_key: str | None, now_ms: int, entry: str | None = None) -> list[Released]:
        """Write the run *run_id* and return the nodes to be sent; a run that exists is left as it is, and nothing is sent.

        It counts as a fire of *entry*, if that is given.
        """

        def write(connection: Connection) -> list[Released]:
            if connection.execute(select(run.c.id).where(run.c.id == run_id)).one_or_none():
                return []
            facts = {"id": run_id, "idempotency_key": idempotency_key, "submitted_ms": now_ms, "entry": entry}
            self._write(connection, spec, facts)
            locked = LockedRun.lock(connection, run_id, now_ms=now_ms)
            locked.queue([number for number, each in enumerate(spec.nodes) if not each.after])
            return locked.close()

        try:
            return self.database.transaction(write)
        except IntegrityError:  # another process has submitted it in this very moment
            return []

    def _write(self, connection: Connection, spec: DagSpec, facts: Mapping[str, Any]) -> None:
        run_id, size = facts["id"], len(spec.nodes)
        values = {"namespace": self.namespace, "name": spec.name, "state": RunState.RUNNING, "nodes": size, "open_nodes": size}
        connection.execute(run.insert().values(**values, **facts))
        rows = [
            {
                "run_id": run_id,
                "number": number,
                "node_key": each.key,
                "task": each.task,
                "signature": each.signature,
                "trigger_rule": each.trigger,
                "on_failure": each.on_failure,
                "args_from": json.dumps(each.args_from),
                "for_each": each.for_each,
                "retries": each.retries,
                "retries_left": each.retries,
                "retry_delay_ms": each.retry_delay_ms,
                "state": NodeState.PENDING,
                "attempt": 1,
                "unresolved": len(each.after),
                "delivery": -1,
                "beat": 0,
                "sends": 0,
                "losses": 0,
                "by_reference": 0,
            }
            for number, each in enumerate(spec.nodes)
        ]
        connection.execute(node.insert(), rows)
        edges = [{"run_id": run_id, "parent": parent, "child": child} for child, each in enumerate(spec.nodes) for parent in each.after]
        if edges:
            connection.execute(edge.insert(), edges)

    # Definitions

    def define(self, spec: DagSpec, *, now_ms: int) -> str:
        """Keep *spec* and return its digest; an equal one is kept once."""
        document = spec.encode()
        name = digest(document)

        def write(connection: Connection) -> None:
            if not connection.execute(select(definition.c.digest).where(definition.c.digest == name)).one_or_none():
                connection.execute(definition.insert().values(digest=name, name=spec.name, document=document, stored_ms=now_ms))

        with suppress(IntegrityError):  # another process has kept it in this very moment
            self.database.transaction(write)
        return name

    def defined(self, name: str) -> DagSpec:
        """Return the definition of that digest."""

        def read(connection: Connection) -> str | None:
            return connection.execute(select(definition.c.document).where(definition.c.digest == name)).scalar()

        document = self.database.look(read)
        if document is None:
            raise UnknownDagRun(f"definition {name}")
        return DagSpec.decode(document)
