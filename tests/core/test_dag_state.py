"""When a node of a DAG runs, is skipped, or is blocked."""

import pytest

from celery_tw.core.dag_state import NodeState, OnFailure, Parent, RunState, Trigger, Verdict, decide, outcome
from celery_tw.core.node_id import NodeId, mid_of_send, run_id

GOOD = Parent(NodeState.SUCCEEDED, OnFailure.BLOCK)
FAILED_BLOCK = Parent(NodeState.FAILED, OnFailure.BLOCK)
FAILED_SKIP = Parent(NodeState.FAILED, OnFailure.SKIP)
FAILED_ANYWAY = Parent(NodeState.FAILED, OnFailure.RUN_ANYWAY)
SKIPPED = Parent(NodeState.SKIPPED, OnFailure.BLOCK)
BLOCKED = Parent(NodeState.BLOCKED, OnFailure.RUN_ANYWAY)


@pytest.mark.parametrize(
    ("parents", "by_default", "all_success", "all_done", "one_failed"),
    [
        ([], "run", "run", "run", "skip"),
        ([GOOD, GOOD], "run", "run", "run", "skip"),
        ([GOOD, FAILED_BLOCK], "block", "block", "run", "run"),
        ([GOOD, FAILED_SKIP], "skip", "skip", "run", "run"),
        ([GOOD, FAILED_ANYWAY], "run", "skip", "run", "run"),
        ([FAILED_SKIP, FAILED_BLOCK], "block", "block", "run", "run"),
        ([FAILED_ANYWAY, FAILED_SKIP], "skip", "skip", "run", "run"),
        ([GOOD, SKIPPED], "skip", "skip", "run", "skip"),
        ([GOOD, BLOCKED], "block", "block", "block", "block"),
        ([FAILED_ANYWAY, BLOCKED], "block", "block", "block", "run"),
    ],
)
def test_a_node_is_decided_by_its_trigger_or_by_what_its_parents_failures_mean(parents, by_default, all_success, all_done, one_failed):
    assert decide(None, parents) == by_default
    assert decide(Trigger.ALL_SUCCESS, parents) == all_success
    assert decide(Trigger.ALL_DONE, parents) == all_done
    assert decide(Trigger.ONE_FAILED, parents) == one_failed


def test_a_failure_fails_the_run_when_it_was_to_block():
    assert outcome([GOOD, FAILED_SKIP, FAILED_ANYWAY, SKIPPED]) is RunState.SUCCEEDED
    assert outcome([GOOD, FAILED_BLOCK]) is RunState.FAILED
    assert outcome([GOOD, BLOCKED]) is RunState.FAILED


def test_the_order_of_parents_does_not_matter():
    for parents in ([GOOD, FAILED_SKIP, FAILED_BLOCK], [FAILED_BLOCK, FAILED_SKIP, GOOD]):
        assert decide(None, parents) is Verdict.BLOCK


def test_a_task_id_says_which_node_it_is_about():
    node = NodeId(run_id("shop", "etl", None), 12, 3)
    assert NodeId.parse(str(node)) == node


@pytest.mark.parametrize("task_id", [None, 7, "", "a.b.c", "d" * 32, "f" * 32 + ".1", "f" * 32 + ".1.1.1", "F" * 32 + ".1.1"])
def test_any_other_id_is_no_nodes(task_id):
    assert NodeId.parse(task_id) is None


def test_one_idempotency_key_is_one_run_of_one_dag_in_one_namespace():
    assert run_id("shop", "etl", "monday") == run_id("shop", "etl", "monday")
    keys = [("shop", "etl", "monday"), ("shop", "etl", "sunday"), ("shop", "x", "monday"), ("b", "etl", "monday")]
    assert len({run_id(*key) for key in keys}) == len(keys)
    assert run_id("shop", "etl", None) != run_id("shop", "etl", None)


def test_a_copy_has_the_same_mid_and_one_that_is_retried_or_put_off_another():
    assert mid_of_send("a", 0) == mid_of_send("a", 0) == mid_of_send("a", 0, snoozes=0)
    assert mid_of_send("a", 0, snoozes=2) == mid_of_send("a", 0, snoozes=2)
    sends = [("a", 0), ("a", 1), ("b", 0), ("a", 0, 1), ("a", 0, 2), ("a", 1, 1)]
    assert len({mid_of_send(*send) for send in sends}) == len(sends)
