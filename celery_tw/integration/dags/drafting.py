"""Drafting: from a `DAG` to its spec, or to one clear error before anything is written."""

from collections.abc import Iterator, Mapping
from typing import Any

from kombu.utils.json import dumps, loads

from celery_tw.core.allowed import AllowedTasks
from celery_tw.core.dag_spec import DagSpec, NodeSpec
from celery_tw.errors import InvalidDag
from celery_tw.integration.dags.dag import DAG, Node

LARGEST_NODE = 256 * 1024
LARGEST_DAG = 64 * 1024 * 1024


def spec_of(dag: Any, *, app: Any, allowed: AllowedTasks) -> DagSpec:
    """Return the spec of *dag*; raises `InvalidDag`."""
    if not isinstance(dag, DAG):
        raise InvalidDag(f"expected a DAG, got {type(dag).__name__}")
    order = dag.order()
    places = {node.key: place for place, node in enumerate(order)}
    spec = DagSpec(dag.name, tuple(_node(node, places, app, allowed) for node in order))
    size = sum(len(node.signature) for node in spec.nodes)
    if size > LARGEST_DAG:
        raise InvalidDag(f"the DAG {dag.name!r} takes {size:,} bytes; at most {LARGEST_DAG:,} are stored: pass references instead")
    return spec


def _node(node: Node, places: Mapping[str, int], app: Any, allowed: AllowedTasks) -> NodeSpec:
    return NodeSpec(
        key=node.key,
        task=str(node.signature.get("task") or type(node.signature).__name__),
        signature=_plain(node, app, allowed),
        after=tuple(places[key] for key in node.after),
        trigger=node.trigger,
        on_failure=node.on_failure,
        retries=node.retries,
        retry_delay_ms=round(1000 * node.retry_delay),
        args_from=tuple(places[key] for key in node.args_from),
        for_each=None if node.for_each is None else places[node.for_each],
    )


def _plain(node: Node, app: Any, allowed: AllowedTasks) -> str:
    """Return the signature of *node* as JSON."""
    try:
        text: str = dumps(dict(node.signature))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidDag(f"node {node.key!r}: its arguments cannot be written as JSON: {error}") from error
    if len(text) > LARGEST_NODE:
        raise InvalidDag(f"node {node.key!r} takes {len(text):,} bytes; at most {LARGEST_NODE:,} are stored: pass a reference instead")
    plain = loads(text)
    for name in tasks_in(plain):
        if not name.startswith("celery.") and name not in app.tasks:
            raise InvalidDag(f"node {node.key!r} runs the task {name!r}, which is not registered in this process: import its module")
    if objection := allowed.objection(plain):
        raise InvalidDag(f"node {node.key!r}: {objection}")
    return text


def tasks_in(signature: Any) -> Iterator[str]:
    """Yield the name of each task in a plain signature, whatever canvas it is."""
    if isinstance(signature, Mapping):
        if "subtask_type" in signature and isinstance(signature.get("task"), str):
            yield signature["task"]
        for value in signature.values():
            yield from tasks_in(value)
    elif isinstance(signature, list):
        for value in signature:
            yield from tasks_in(value)
