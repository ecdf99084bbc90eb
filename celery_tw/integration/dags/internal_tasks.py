"""Internal tasks: the messages that we send ourselves. Every app with a time wheel knows them; only those with DAGs ever see one.

=========================  ===========================================================================================
``celery_tw.dags.submit``   submits a stored DAG: what an entry of the timetable sends
``celery_tw.dags.resolve``  takes a node's end to SQL, for a process that could not
``celery_tw.dags.collect``  ends a node that is a canvas: its result is the node's
``celery_tw.dags.fail``     hears that a part of such a canvas has failed
``celery_tw.dags.let_go``   sends a node whose retry was to wait until now
=========================  ===========================================================================================

They go to the app's default queue unless ``task_routes`` says otherwise.
"""

from typing import Any

from celery_tw.core.dag_state import NodeState
from celery_tw.core.node_id import NodeId
from celery_tw.errors import DatabaseUnavailable
from celery_tw.integration.dags.parts import parts_of
from celery_tw.integration.runs.counting import open_task

SUBMIT = "celery_tw.dags.submit"
PATIENT = {
    "autoretry_for": (DatabaseUnavailable,),
    "max_retries": None,
    "retry_backoff": 1,
    "retry_backoff_max": 30,
    "acks_late": True,
    "ignore_result": True,
}


def register(app: Any) -> None:
    """Give *app* the tasks; connects nowhere and reads no setting."""
    app.task(name=SUBMIT, bind=True, shared=False, **{**PATIENT, "ignore_result": False})(_submit)
    app.task(name="celery_tw.dags.resolve", bind=True, shared=False, **PATIENT)(_resolve)
    app.task(name="celery_tw.dags.collect", shared=False)(_collect)
    app.task(name="celery_tw.dags.fail", bind=True, shared=False, **PATIENT)(_fail)
    app.task(name="celery_tw.dags.let_go", bind=True, shared=False, **PATIENT)(_let_go)


def _submit(self: Any, definition: str) -> str:
    """Submit the DAG stored as *definition*, once for this task, however often its message comes; return the run's id."""
    from celery_tw.integration.dags.dags import Dags  # noqa: PLC0415 - it imports the parts that need SQLAlchemy

    counted = open_task(self.request)
    entry = None if counted is None else counted.name
    return Dags(self.app).submit_stored(definition, idempotency_key=f"task {self.request.id}", entry=entry).id


def _resolve(self: Any, node: str, state: str, result: str | None, by_reference: bool, error: str, final: bool) -> None:
    """Take the end of a node to SQL."""
    from celery_tw.stores.sql.progress import Ended  # noqa: PLC0415

    node_id = NodeId.parse(node)
    if node_id is not None:
        parts_of(self.app).carrier.settle(node_id, Ended(NodeState(state), result, by_reference=by_reference, error=error, final=final))


def _let_go(self: Any, node: str) -> None:
    """Send a node whose retry was to wait until now."""
    node_id, parts = NodeId.parse(node), parts_of(self.app)
    if node_id is not None:
        parts.sending.send(parts.progress.let_go(node_id, now_ms=parts.clock.wall_ms()))


def _collect(result: Any = None) -> Any:
    """Return the result of the canvas before it: the end of this task is the end of the node."""
    return result


def _fail(self: Any, task_id: str, *, node: str) -> None:
    """Take the failure of the part *task_id* of a canvas to SQL, as the failure of its node."""
    from celery_tw.integration.dags.results import end_in_backend, failure  # noqa: PLC0415

    node_id, known = NodeId.parse(node), end_in_backend(task_id, self.app)
    error = known.error if known is not None and known.error else "no error is known"
    if node_id is not None:
        parts_of(self.app).carrier.settle(node_id, failure(f"its part {task_id} failed: {error}"))
