"""DAG state: what a node, and a run of a DAG, can be, and when a node may start.

::

    pending ──▶ queued ──▶ running ──▶ succeeded | failed            pending ──▶ skipped | blocked
       │          ▲                       │
       └▶ ready ──┘ (run resumed)         └▶ queued (retries left)   any but running ──▶ cancelled

A node is decided once, when all of its parents have ended. A failed parent's ``on_failure`` says what that means for its children, unless
a child has a ``trigger`` of its own:

===============  ============================================================================================
all_success      runs when all parents succeeded
all_done         runs when all have ended, one way or another
one_failed       runs when at least one failed
===============  ============================================================================================

*Blocked* is an end that waits for a person: a node is blocked when a parent is, or failed with ``on_failure="block"``; a repaired run
decides it anew. So even ``all_done`` is blocked by a blocked parent, which has not had its say.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class NodeState(StrEnum):
    """The states of a node."""

    PENDING = "pending"
    READY = "ready"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    BLOCKED = "blocked"
    CANCELLED = "cancelled"


ENDED = frozenset({NodeState.SUCCEEDED, NodeState.FAILED, NodeState.SKIPPED, NodeState.BLOCKED, NodeState.CANCELLED})
UNDER_WAY = frozenset({NodeState.QUEUED, NodeState.RUNNING})


class RunState(StrEnum):
    """The states of a run: the last three are ends."""

    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


RUN_ENDED = frozenset({RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED})


class OnFailure(StrEnum):
    """What a node's failure means for its children."""

    BLOCK = "block"
    SKIP = "skip"
    RUN_ANYWAY = "run_anyway"


class Trigger(StrEnum):
    """When a child runs, whatever its parents' ``on_failure`` says."""

    ALL_SUCCESS = "all_success"
    ALL_DONE = "all_done"
    ONE_FAILED = "one_failed"


class Verdict(StrEnum):
    """What becomes of a node whose parents have all ended."""

    RUN = "run"
    SKIP = "skip"
    BLOCK = "block"


@dataclass(frozen=True, slots=True)
class Parent:
    """An ended parent, as its child sees it."""

    state: NodeState
    on_failure: OnFailure


def decide(trigger: Trigger | None, parents: Iterable[Parent]) -> Verdict:
    """Return what becomes of a node with that *trigger* whose *parents* have all ended."""
    parents = list(parents)
    failed = any(parent.state is NodeState.FAILED for parent in parents)
    blocked = any(parent.state in (NodeState.BLOCKED, NodeState.CANCELLED) for parent in parents)
    if trigger is Trigger.ONE_FAILED:
        return Verdict.RUN if failed else Verdict.BLOCK if blocked else Verdict.SKIP
    if blocked:
        return Verdict.BLOCK
    if trigger is Trigger.ALL_DONE:
        return Verdict.RUN
    says = {_says(parent, strict=trigger is Trigger.ALL_SUCCESS) for parent in parents}
    return next((verdict for verdict in (Verdict.BLOCK, Verdict.SKIP) if verdict in says), Verdict.RUN)


def _says(parent: Parent, *, strict: bool) -> Verdict:
    if parent.state is NodeState.SUCCEEDED:
        return Verdict.RUN
    if parent.state is NodeState.SKIPPED or parent.on_failure is OnFailure.SKIP:
        return Verdict.SKIP
    if parent.on_failure is OnFailure.BLOCK:
        return Verdict.BLOCK
    return Verdict.SKIP if strict else Verdict.RUN


def outcome(ended: Iterable[Parent]) -> RunState:
    """Return how a run ended whose nodes have all *ended*: a failure counts when it was to block what comes after it."""
    fatal = any(
        node.state in (NodeState.BLOCKED, NodeState.CANCELLED) or (node.state is NodeState.FAILED and node.on_failure is OnFailure.BLOCK)
        for node in ended
    )
    return RunState.FAILED if fatal else RunState.SUCCEEDED
