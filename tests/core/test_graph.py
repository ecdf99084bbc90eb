"""The order of a graph, and each way in which it can be none."""

import random

import pytest

from celery_tw.core.graph import MOST_EDGES, MOST_NODES, children_of, descendants, in_order
from celery_tw.errors import DependencyCycle, InvalidDag

DIAMOND = {"top": [], "left": ["top"], "right": ["top"], "bottom": ["left", "right"]}


def test_parents_come_before_their_children():
    randomness = random.Random(7)
    keys = [f"n{number}" for number in range(500)]
    parents = {key: randomness.sample(keys[:index], min(index, randomness.randrange(4))) for index, key in enumerate(keys)}
    shuffled = dict(randomness.sample(list(parents.items()), len(parents)))
    place = {key: index for index, key in enumerate(in_order(shuffled))}
    assert place.keys() == parents.keys()
    assert all(place[parent] < place[key] for key, above in parents.items() for parent in above)


def test_nodes_that_may_come_in_any_order_keep_their_own():
    assert in_order({"b": [], "a": [], "c": []}) == ["b", "a", "c"]


def test_a_cycle_is_refused_with_its_path():
    with pytest.raises(DependencyCycle) as refused:
        in_order({"start": [], "a": ["start", "c"], "b": ["a"], "c": ["b"], "end": ["c"]})
    path = refused.value.path
    assert path[0] == path[-1]
    assert set(path) == {"a", "b", "c"}
    assert {(path[at], path[at + 1]) for at in range(3)} == {("a", "b"), ("b", "c"), ("c", "a")}


def test_a_node_that_waits_for_itself_is_a_cycle():
    with pytest.raises(DependencyCycle, match="a → a"):
        in_order({"a": ["a"]})


def test_a_cycle_at_the_end_of_twenty_thousand_nodes_is_found():
    keys = [f"n{number}" for number in range(MOST_NODES)]
    parents = {key: keys[max(0, index - 3) : index] for index, key in enumerate(keys)}
    assert in_order(parents) == keys
    parents[keys[-3]] = [*parents[keys[-3]], keys[-1]]
    with pytest.raises(DependencyCycle) as refused:
        in_order(parents)
    assert refused.value.path[0] == refused.value.path[-1]
    assert set(refused.value.path) <= set(keys[-3:])
    assert len(str(refused.value)) < 1000


def test_a_graph_may_have_two_hundred_thousand_edges_and_no_more():
    keys = [f"n{number}" for number in range(633)]
    parents = {key: keys[:index] for index, key in enumerate(keys)}
    parents[keys[-1]] = keys[: -1 - 28]
    assert sum(map(len, parents.values())) == MOST_EDGES == 200_000
    assert len(in_order(parents)) == 633

    parents[keys[-1]] = keys[: -1 - 27]
    with pytest.raises(InvalidDag, match="at most 200,000 edges; this one has 200,001"):
        in_order(parents)


def test_a_long_cycle_is_told_in_short():
    keys = [f"n{number}" for number in range(1000)]
    with pytest.raises(DependencyCycle) as refused:
        in_order({key: [keys[index - 1]] for index, key in enumerate(keys)})
    assert len(refused.value.path) == 1001
    assert "…" in str(refused.value)


@pytest.mark.parametrize(
    ("parents", "says"),
    [
        ({}, "at least one node"),
        ({"a": ["b"]}, "'a' comes after 'b', which is no node"),
        ({"a": [], "b": ["a", "a"]}, "'b' names a parent twice: 'a'"),
        (dict.fromkeys(map(str, range(MOST_NODES + 1)), ()), "at most 20,000 nodes"),
        ({"a": [], "b": ["a"] * (MOST_EDGES + 1)}, "at most 200,000 edges"),
    ],
)
def test_what_is_no_graph_is_refused_in_one_sentence(parents, says):
    with pytest.raises(InvalidDag, match=says):
        in_order(parents)


def test_descendants_are_what_comes_after():
    children = children_of(DIAMOND)
    assert descendants(["left"], children) == {"bottom"}
    assert descendants(["top"], children) == {"left", "right", "bottom"}
    assert descendants(["bottom"], children) == set()
