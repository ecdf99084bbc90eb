"""Node replays: a node of a DAG runs again in its run, and with it all that waits for it."""

from typing import Any

from celery_tw.core.dag_state import NodeState
from celery_tw.core.node_id import NodeId
from celery_tw.errors import InvalidDag


def retry_node(app: Any, node_id: NodeId) -> None:
    """Run the node of a failed attempt again; raises an error of celery-tw when the node has gone on without it."""
    run = app.timewheel.dags.run(node_id.run_id)
    view = next((view for view in run.nodes() if view.task_id == str(node_id)), None)
    if view is None or view.state != NodeState.FAILED:
        raise InvalidDag(f"the node of the task {node_id} has been run again, or has ended otherwise, since that attempt failed")
    run.retry(view.key)
