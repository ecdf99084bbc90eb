"""DAG spec: a DAG as it is stored: plain values only, so that any process can run it without the code that wrote it.

Nodes stand in an order in which parents come first, and refer to each other by their place in it.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any, Self

from celery_tw.core.dag_state import OnFailure, Trigger
from celery_tw.errors import MalformedRecord, NewerSchema

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSpec:
    """A node. *signature* is JSON as kombu writes it.

    *args_from* are the parents whose results come before its own arguments, *for_each* the one whose list it fans out over.
    """

    key: str
    task: str
    signature: str
    after: tuple[int, ...] = ()
    trigger: Trigger | None = None
    on_failure: OnFailure = OnFailure.BLOCK
    retries: int = 0
    retry_delay_ms: int = 0
    args_from: tuple[int, ...] = ()
    for_each: int | None = None

    @property
    def wants(self) -> frozenset[int]:
        """The parents whose results it takes."""
        return frozenset(self.args_from) | (frozenset() if self.for_each is None else {self.for_each})


@dataclass(frozen=True, slots=True)
class DagSpec:
    """A checked DAG."""

    name: str
    nodes: tuple[NodeSpec, ...] = field(repr=False)

    def encode(self) -> str:
        """Return it as JSON."""
        document = {"v": SCHEMA, "name": self.name, "nodes": [asdict(node) for node in self.nodes]}
        return json.dumps(document, separators=(",", ":"))

    @classmethod
    def decode(cls, text: str) -> Self:
        """Return what `encode` wrote; raises `MalformedRecord` or `NewerSchema`."""
        try:
            document = json.loads(text)
            if document["v"] > SCHEMA:
                raise NewerSchema(f"a DAG is stored in schema {document['v']}, and this version of celery-tw knows {SCHEMA}: upgrade it")
            return cls(document["name"], tuple(_node(each) for each in document["nodes"]))
        except (KeyError, TypeError, ValueError) as error:
            raise MalformedRecord(f"a stored DAG cannot be read: {error}") from error


def digest(text: str) -> str:
    """Return the name under which a definition is stored: an equal one has the same."""
    return sha256(text.encode()).hexdigest()


def _node(document: Mapping[str, Any]) -> NodeSpec:
    known = {name: document[name] for name in NodeSpec.__dataclass_fields__ if name in document}
    known |= {"after": tuple(document["after"]), "args_from": tuple(document["args_from"]), "on_failure": OnFailure(document["on_failure"])}
    known["trigger"] = None if document["trigger"] is None else Trigger(document["trigger"])
    return NodeSpec(**known)
