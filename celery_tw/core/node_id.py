"""Node id: one attempt of one node of one run, as the id of its Celery task: ``<run>.<number>.<attempt>``.

The id says all that is needed to find the node again, wherever a task's end is seen: also where there is no message at hand. A task keeps
it when Celery retries it, and a copy of its message has the same.
"""

import re
from dataclasses import dataclass
from typing import Self
from uuid import NAMESPACE_OID, uuid4, uuid5

RUN_PATTERN = re.compile(r"[0-9a-f]{32}")
PATTERN = re.compile(r"([0-9a-f]{32})\.(\d{1,9})\.(\d{1,9})")
MEMBER = "tw_dag_member"
"""The header that tells of which node a task is a part: one inside of a canvas has an id of Celery's own."""


@dataclass(frozen=True, slots=True)
class NodeId:
    """The *attempt* (from 1) of the node with that *number* in the run *run_id*."""

    run_id: str
    number: int
    attempt: int

    @classmethod
    def parse(cls, task_id: object) -> Self | None:
        """Return the node that *task_id* is about; None for any other task's."""
        found = PATTERN.fullmatch(task_id) if isinstance(task_id, str) else None
        return None if found is None else cls(found[1], int(found[2]), int(found[3]))

    def __str__(self) -> str:
        return f"{self.run_id}.{self.number}.{self.attempt}"


def run_id(namespace: str, name: str, idempotency_key: str | None) -> str:
    """Return the id of a new run of the DAG *name*; two submits with one key are about one run, because they make the same id."""
    if idempotency_key is None:
        return uuid4().hex
    return uuid5(NAMESPACE_OID, f"celery-tw dag\n{namespace}\n{name}\n{idempotency_key}").hex


def mid_of_send(task_id: str, retries: int, snoozes: int = 0) -> str:
    """Return the mid of a node's send: sent again, it is the same; one that is retried or put off is another."""
    put_off = f"\n{snoozes}" if snoozes else ""
    return str(uuid5(NAMESPACE_OID, f"celery-tw node\n{task_id}\n{retries}{put_off}"))
