"""Letter ids: a dead letter has the mid of its send; that of a node of a DAG has its task's id, for each attempt has one of its own."""

from collections.abc import Mapping
from typing import Any

from celery_tw.core.node_id import NodeId
from celery_tw.integration.dlq.deaths import mid_of_headers


def letter_id_of(task_id: str, mid: str) -> str:
    """Return the id of the letter of a send; '' for what is no task at all."""
    return mid if NodeId.parse(task_id) is None else task_id


def letter_id_of_headers(headers: Mapping[str, Any]) -> str:
    """Return the id of the letter of a message with *headers*; '' for what is no task at all."""
    return letter_id_of(str(headers.get("id") or ""), mid_of_headers(headers))
