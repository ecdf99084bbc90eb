"""DAG: tasks and what they wait for, as a user writes it down.

::

    with DAG("etl") as dag:
        clean = dag.node("clean", clean_task.s(), retries=2)
        dag.node("load", load_task.s(), after=[clean], args_from=[clean])

A node's task is any signature, chain, group or chord. Nothing is connected to and nothing written before it is submitted; leaving the
``with`` block checks the graph, and submitting checks all of it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from celery.canvas import Signature

from celery_tw.core.dag_state import OnFailure, Trigger
from celery_tw.core.graph import in_order
from celery_tw.errors import InvalidDag

LONGEST_NAME = 200
MOST_RETRIES = 1000
LONGEST_DELAY_S = 7 * 24 * 3600


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A node of a `DAG`; `after` of a later one takes it, or its key."""

    key: str
    signature: Signature = field(repr=False)
    after: tuple[str, ...] = ()
    trigger: Trigger | None = None
    on_failure: OnFailure = OnFailure.BLOCK
    retries: int = 0
    retry_delay: float = 0
    args_from: tuple[str, ...] = ()
    for_each: str | None = None


class DAG:
    """A directed acyclic graph of tasks, named *name*."""

    def __init__(self, name: str) -> None:
        self.name = _checked_text(name, what="a DAG's name")
        self.nodes: dict[str, Node] = {}

    def __repr__(self) -> str:
        return f"<DAG {self.name!r} of {len(self.nodes)} nodes>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if error is None:
            self.order()

    def node(
        self,
        key: str,
        signature: Signature,
        *,
        after: Iterable[Node | str] = (),
        trigger: str | None = None,
        on_failure: str = "block",
        retries: int = 0,
        retry_delay: float = 0,
        args_from: Iterable[Node | str] = (),
        for_each: Node | str | None = None,
    ) -> Node:
        """Add a node that runs *signature* when the nodes in *after* have ended; a parent may be added later than its child.

        *on_failure* says what its failure means for its children: they are blocked until the run is repaired ("block"), skipped ("skip"),
        or run all the same ("run_anyway"). *trigger* makes this node deaf to that of its parents: it runs when all succeeded
        ("all_success"), when all ended ("all_done"), when at least one failed ("one_failed"). *retries* is how often it is sent again after
        Celery has given it up, *retry_delay* after how many seconds the first time, which doubles each time, up to an hour. *args_from*
        names the parents whose results come, in that order, before its own arguments. *for_each* names a parent whose result is a list: the
        task runs once for each element, which comes before all other arguments, and the node's result is the list of theirs. Who gives a
        result is a parent; it need not be in *after* as well.

        Raises `InvalidDag` for a key that is taken and options that cannot be; the graph itself is checked when all of it is known.
        """
        if _checked_text(key, what="a node's key") in self.nodes:
            raise InvalidDag(f"the DAG {self.name!r} has two nodes {key!r}")
        giving = _keys(key, "args_from", args_from)
        each = None if for_each is None else _keys(key, "for_each", [for_each])[0]
        before = _keys(key, "after", after)
        more = [parent for parent in dict.fromkeys([*giving, *([each] if each else [])]) if parent not in before]
        node = Node(
            key=key,
            signature=_checked_signature(key, signature, takes=bool(giving or each)),
            after=(*before, *more),
            trigger=None if trigger is None else _one_of(Trigger, key, "trigger", trigger),
            on_failure=_one_of(OnFailure, key, "on_failure", on_failure),
            retries=_checked_retries(key, retries),
            retry_delay=_checked_delay(key, retry_delay, retries=retries),
            args_from=giving,
            for_each=each,
        )
        self.nodes[key] = node
        return node

    def order(self) -> list[Node]:
        """Return the nodes, parents first; raises `InvalidDag`, or `DependencyCycle` with the path."""
        return [self.nodes[key] for key in in_order({key: node.after for key, node in self.nodes.items()})]


def _keys(key: str, option: str, nodes: Iterable[Node | str]) -> tuple[str, ...]:
    if isinstance(nodes, str | Node):
        raise InvalidDag(f"node {key!r}: {option} is a list of nodes or their keys, not one: expected [{_shown(nodes)!r}]")
    keys = tuple(_shown(node) for node in nodes)
    wrong = next((each for each in keys if not isinstance(each, str)), None)
    if wrong is not None:
        raise InvalidDag(f"node {key!r}: {option} takes nodes or their keys, not {type(wrong).__name__}")
    return keys


def _shown(node: Any) -> Any:
    return node.key if isinstance(node, Node) else node


def _checked_text(text: Any, *, what: str) -> str:
    if not isinstance(text, str) or not text.strip() or not text.isprintable() or len(text) > LONGEST_NAME:
        raise InvalidDag(f"{what} is text of 1 to {LONGEST_NAME} printable characters, not {text!r:.60}")
    return text


def _checked_signature(key: str, signature: Any, *, takes: bool) -> Signature:
    if not isinstance(signature, Signature):
        hint = ", with its arguments: task.s(…)" if hasattr(signature, "s") else ""
        raise InvalidDag(f"node {key!r} runs a signature or canvas{hint}, not {type(signature).__name__}")
    if takes and signature.immutable:
        raise InvalidDag(f"node {key!r} is to take its parents' results and its signature is immutable: expected task.s(…), not task.si(…)")
    return signature


def _checked_retries(key: str, retries: Any) -> int:
    if not isinstance(retries, int) or isinstance(retries, bool) or not 0 <= retries <= MOST_RETRIES:
        raise InvalidDag(f"node {key!r}: retries is a whole number from 0 to {MOST_RETRIES}, not {retries!r}")
    return retries


def _checked_delay(key: str, delay: Any, *, retries: int) -> float:
    if not isinstance(delay, int | float) or isinstance(delay, bool) or not 0 <= delay <= LONGEST_DELAY_S:
        raise InvalidDag(f"node {key!r}: retry_delay is a number of seconds from 0 to {LONGEST_DELAY_S:,}, not {delay!r}")
    if delay and not retries:
        raise InvalidDag(f"node {key!r} has a retry_delay and no retries: expected retries=1 or more")
    return delay


def _one_of(choices: Any, key: str, option: str, value: Any) -> Any:
    try:
        return choices(value)
    except ValueError:
        raise InvalidDag(f"node {key!r}: {option} is one of {', '.join(repr(str(each)) for each in choices)}, not {value!r}") from None
