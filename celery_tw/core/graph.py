"""Graph: nodes by key, each with the keys of its parents, checked and put in an order in which parents come first.

The order is Kahn's: take what has no parent left, in the order in which nodes were given, until nothing is left. What cannot be taken is
on a cycle or behind one; walking up from any of it comes to a node twice, and what lies between is the path that the error shows.
Each node and each edge is looked at a fixed number of times.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from celery_tw.errors import DependencyCycle, InvalidDag

MOST_NODES = 20_000
MOST_EDGES = 200_000

Name = TypeVar("Name")
Parents = Mapping[str, Sequence[str]]


def in_order(parents: Parents) -> list[str]:
    """Return the keys of *parents*, every node after all of its parents.

    Raises `InvalidDag` for a graph that is empty or too large, an unknown parent or one named twice, `DependencyCycle` for a cycle.
    """
    _refuse_size(parents)
    for key, above in parents.items():
        _refuse_parents(key, above, parents)
    left = {key: len(above) for key, above in parents.items()}
    children = children_of(parents)
    free = deque(key for key, count in left.items() if count == 0)
    order = []
    while free:
        key = free.popleft()
        order.append(key)
        for child in children[key]:
            left[child] -= 1
            if left[child] == 0:
                free.append(child)
    if len(order) < len(parents):
        raise DependencyCycle(_cycle(parents, stuck={key for key, count in left.items() if count}))
    return order


def children_of(parents: Parents) -> dict[str, list[str]]:
    """Return the children of each node."""
    children: dict[str, list[str]] = {key: [] for key in parents}
    for key, above in parents.items():
        for parent in above:
            children[parent].append(key)
    return children


def descendants(roots: Iterable[Name], children: Mapping[Name, Iterable[Name]]) -> set[Name]:
    """Return what can be reached from *roots* along *children*, without the roots that cannot."""
    found: set[Name] = set()
    ahead = [child for root in roots for child in children.get(root, ())]
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            ahead.extend(children.get(name, ()))
    return found


def _refuse_size(parents: Parents) -> None:
    if not parents:
        raise InvalidDag("a DAG has at least one node")
    if len(parents) > MOST_NODES:
        raise InvalidDag(f"a DAG has at most {MOST_NODES:,} nodes; this one has {len(parents):,}: make parts of it DAGs of their own")
    edges = sum(map(len, parents.values()))
    if edges > MOST_EDGES:
        raise InvalidDag(f"a DAG has at most {MOST_EDGES:,} edges; this one has {edges:,}: let a node in the middle gather them")


def _refuse_parents(key: str, above: Sequence[str], parents: Parents) -> None:
    if key in above:
        raise DependencyCycle([key, key])
    if len(set(above)) < len(above):
        raise InvalidDag(f"node {key!r} names a parent twice: {next(each for each in above if above.count(each) > 1)!r}")
    unknown = next((each for each in above if each not in parents), None)
    if unknown is not None:
        raise InvalidDag(f"node {key!r} comes after {unknown!r}, which is no node of the DAG")


def _cycle(parents: Parents, *, stuck: set[str]) -> list[str]:
    """Return a cycle among *stuck*, in the direction of the edges, its first node again at its end."""
    key = next(key for key in parents if key in stuck)
    seen: dict[str, int] = {}
    path: list[str] = []
    while key not in seen:
        seen[key] = len(path)
        path.append(key)
        key = next(parent for parent in parents[key] if parent in stuck)
    cycle = [*path[seen[key] :], key]
    return cycle[::-1]
