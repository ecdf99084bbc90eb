"""A DAG as it is stored: it comes back as it was, and what cannot be read is told apart."""

import json
from typing import Any

import pytest

from celery_tw.core.dag_spec import DagSpec, NodeSpec, digest
from celery_tw.core.dag_state import OnFailure, Trigger
from celery_tw.errors import MalformedRecord, NewerSchema

PLAIN = NodeSpec(key="load", task="shop.load", signature="{}")
FULL = NodeSpec(
    key="report",
    task="shop.report",
    signature='{"task":"shop.report"}',
    after=(0, 1),
    trigger=Trigger.ALL_DONE,
    on_failure=OnFailure.SKIP,
    retries=2,
    retry_delay_ms=500,
    args_from=(1,),
    for_each=0,
)


def stored(**changes: Any) -> str:
    """Return the JSON of a DAG of one node, with *changes* to the document."""
    return json.dumps(json.loads(DagSpec("etl", (PLAIN,)).encode()) | changes)


def test_a_dag_comes_back_as_it_was():
    spec = DagSpec("etl", (PLAIN, FULL))

    assert DagSpec.decode(spec.encode()) == spec


def test_a_dag_of_any_number_of_nodes_shows_itself_by_its_name():
    assert repr(DagSpec("etl", (PLAIN,) * 1000)) == "DagSpec(name='etl')"


def test_a_node_fails_for_good_at_its_first_failure_unless_it_says_otherwise():
    assert (PLAIN.retries, PLAIN.retry_delay_ms, PLAIN.on_failure, PLAIN.trigger) == (0, 0, OnFailure.BLOCK, None)


def test_a_node_wants_the_results_it_takes_as_arguments_and_the_list_it_fans_out_over():
    assert PLAIN.wants == frozenset()
    assert FULL.wants == {0, 1}


def test_a_node_without_what_came_later_is_read_with_its_defaults():
    node = json.loads(stored())["nodes"][0]
    for name in ("retries", "retry_delay_ms", "for_each"):
        del node[name]

    assert DagSpec.decode(stored(nodes=[node])) == DagSpec("etl", (PLAIN,))


def test_what_a_later_version_adds_within_the_schema_is_passed_over():
    node = json.loads(stored())["nodes"][0] | {"colour": "red"}

    assert DagSpec.decode(stored(nodes=[node], owner="anna")) == DagSpec("etl", (PLAIN,))


def test_a_newer_schema_is_not_malformed():
    with pytest.raises(NewerSchema, match="schema 2, and this version of celery-tw knows 1"):
        DagSpec.decode(stored(v=2, nodes="of another kind"))


@pytest.mark.parametrize("text", ["{", "[]", "7", '{"v":1}', '{"v":"1"}', stored(nodes=[{}]), stored(nodes=[{"key": "a"}])])
def test_what_cannot_be_read_is_malformed(text: str):
    with pytest.raises(MalformedRecord, match="a stored DAG cannot be read"):
        DagSpec.decode(text)


def test_equal_definitions_have_one_name_and_others_another():
    assert digest(stored()) == digest(stored())
    assert digest(stored()) != digest(stored(name="elt"))
    assert len(digest(stored())) == 64
