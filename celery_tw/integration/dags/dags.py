"""Dags: ``tw.dags``, the verbs of people and programs on workflows."""

from typing import Any

from celery_tw import events
from celery_tw.core.dag_spec import DagSpec
from celery_tw.core.dag_state import RunState
from celery_tw.core.node_id import RUN_PATTERN, run_id
from celery_tw.errors import InvalidDag, UnknownDagRun
from celery_tw.integration.dags.dag import DAG
from celery_tw.integration.dags.dag_run import DagRun
from celery_tw.integration.dags.drafting import spec_of
from celery_tw.integration.dags.internal_tasks import SUBMIT
from celery_tw.integration.dags.parts import DagParts, parts_of
from celery_tw.integration.dags.views import DagRunView, NodeView, run_view

LONGEST_KEY = 1000


class Dags:
    """Submits DAGs and looks after their runs. Every verb may raise `DatabaseUnavailable`, and ImproperlyConfigured without a database."""

    def __init__(self, app: Any) -> None:
        self.app = app

    @property
    def _parts(self) -> DagParts:
        return parts_of(self.app)

    def submit(self, dag: DAG, *, idempotency_key: str | None = None) -> DagRun:
        """Begin a run of *dag* and return it; two submits of a DAG of that name with one *idempotency_key* are one run.

        All of it is checked before anything is written: raises `InvalidDag`, `DependencyCycle` with the path among them.
        """
        return self._begin(self._spec(dag), idempotency_key)

    def submit_stored(self, definition: str, *, idempotency_key: str, entry: str | None = None) -> DagRun:
        """Begin a run of the DAG that `define` has stored; it counts as a fire of *entry*, if that is given."""
        return self._begin(self._parts.submitting.defined(definition), idempotency_key, entry=entry)

    def define(self, dag: DAG) -> str:
        """Check *dag* and store it for an entry of the timetable; return what `submit_stored` knows it by."""
        return self._parts.submitting.define(self._spec(dag), now_ms=self._parts.clock.wall_ms())

    def signature(self, dag: DAG) -> Any:
        """Return a signature that submits *dag* each time it is sent."""
        return self.app.tasks[SUBMIT].si(self.define(dag))

    def list(self, *, name: str | None = None, state: str | None = None, limit: int = 100) -> list[DagRunView]:
        """Return up to *limit* runs, the newest first, of the DAG *name* and in that *state* if they are given."""
        if state is not None and state not in list(RunState):
            raise InvalidDag(f"a run is one of {', '.join(RunState)}, not {state!r}")
        rows = self._parts.reading.runs(name=name, state=None if state is None else RunState(state), limit=limit)
        return [run_view(row) for row in rows]

    def run(self, id: str) -> DagRun:  # noqa: A002 - the run's own word
        """Return the run *id*; raises `UnknownDagRun`."""
        parts = self._parts
        if not RUN_PATTERN.fullmatch(id):
            raise UnknownDagRun(id)
        parts.reading.run(id)
        return DagRun(parts, id)

    def show(self, id: str) -> tuple[DagRunView, tuple[NodeView, ...]]:  # noqa: A002
        """Return how a run and its nodes stand; raises `UnknownDagRun`."""
        run = self.run(id)
        return run.status(), tuple(run.nodes())

    def pause(self, id: str) -> DagRunView:  # noqa: A002
        """See `DagRun.pause`."""
        return self.run(id).pause()

    def resume(self, id: str) -> DagRunView:  # noqa: A002
        """See `DagRun.resume`."""
        return self.run(id).resume()

    def cancel(self, id: str) -> DagRunView:  # noqa: A002
        """See `DagRun.cancel`."""
        return self.run(id).cancel()

    def retry(self, id: str, key: str | None = None) -> DagRunView:  # noqa: A002
        """See `DagRun.retry`."""
        return self.run(id).retry(key)

    def set_up(self) -> None:
        """Make the tables, for processes whose own database user may not."""
        _ = self._parts.database

    def _spec(self, dag: DAG) -> DagSpec:
        parts = self._parts
        self.app.finalize()
        return spec_of(dag, app=self.app, allowed=parts.settings.allowed_tasks)

    def _begin(self, spec: DagSpec, idempotency_key: str | None, *, entry: str | None = None) -> DagRun:
        if idempotency_key is not None and not (isinstance(idempotency_key, str) and 0 < len(idempotency_key) <= LONGEST_KEY):
            raise InvalidDag(f"an idempotency key is text of 1 to {LONGEST_KEY} characters, not {idempotency_key!r:.60}")
        parts = self._parts
        name = run_id(parts.settings.namespace, spec.name, idempotency_key)
        now_ms = parts.clock.wall_ms()
        released = parts.submitting.submit(spec, run_id=name, idempotency_key=idempotency_key, now_ms=now_ms, entry=entry)
        if released and entry is not None:
            parts.open_runs.follow(entry, name, RunState.RUNNING)
        if released:
            events.dag_run_started.send(sender=self, run_id=name, dag=spec.name)
            parts.sending.send(released)
        return DagRun(parts, name)
