"""The verbs on workflows, on every database that answers."""

import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select, text, update
from sqlalchemy.exc import OperationalError

from celery_tw.core.dag_spec import DagSpec, NodeSpec, digest
from celery_tw.core.dag_state import ENDED, NodeState, OnFailure, RunState, Trigger
from celery_tw.core.node_id import NodeId
from celery_tw.errors import DatabaseUnavailable, InvalidDag, MalformedRecord, NewerSchema, StaleEpoch, UnknownDagRun, UnknownNode
from celery_tw.stores.sql.control import Control
from celery_tw.stores.sql.database import Database
from celery_tw.stores.sql.progress import Ended, Progress, Settled
from celery_tw.stores.sql.reading import Reading
from celery_tw.stores.sql.set_up import set_up, stored_version
from celery_tw.stores.sql.submitting import Submitting
from celery_tw.stores.sql.sweeping import Sweeping
from celery_tw.stores.sql.tables import VERSION, node, schema
from tests.databases import KINDS, database_of

RUN = "a" * 32
GOOD = Ended(NodeState.SUCCEEDED, "1")
BAD = Ended(NodeState.FAILED, error="ValueError('no')")
ADDED_SINCE_THE_FIRST_VERSION = [("tw_dag_run", "entry"), ("tw_dag_node", "retry_delay_ms")]


class Store:
    """All verbs, and a run that a test drives by the keys of its nodes."""

    def __init__(self, url: str) -> None:
        self.database = Database(url)
        set_up(self.database)
        self.submitting = Submitting(self.database, "shop")
        self.progress = Progress(self.database)
        self.control = Control(self.database)
        self.sweeping = Sweeping(self.database, "shop")
        self.reading = Reading(self.database, "shop")

    def submit(self, **nodes: Any) -> set[str]:
        return {each.key for each in self.submitting.submit(dag(**nodes), run_id=RUN, idempotency_key=None, now_ms=1)}

    def id(self, key: str) -> NodeId:
        found = next(each for each in self.reading.nodes(RUN) if each.key == key)
        return NodeId.parse(found.task_id)

    def start(self, key: str, *, retries: int = 0, alone: bool = False) -> bool:
        return self.progress.start(self.id(key), retries=retries, alone=alone, now_ms=2)

    def end(self, key: str, ended: Ended = GOOD) -> set[str]:
        """End a node and return the keys of those that are released."""
        settled = self.progress.end(self.id(key), ended, now_ms=3)
        assert settled.accepted
        return {each.key for each in settled.released}

    def states(self) -> dict[str, str]:
        return {each.key: str(each.state) for each in self.reading.nodes(RUN)}

    @property
    def state(self) -> RunState:
        return self.reading.run(RUN).state


def dag(**nodes: Any) -> DagSpec:
    """``dag(a={}, b={"after": "a"})``: parents first."""
    places = {key: place for place, key in enumerate(nodes)}
    return DagSpec(
        "etl",
        tuple(
            NodeSpec(
                key=key,
                task="shop.work",
                signature="{}",
                after=tuple(places[parent] for parent in options.pop("after", "").split()),
                args_from=tuple(places[parent] for parent in options.pop("args_from", "").split()),
                **options,
            )
            for key, options in ((key, dict(options)) for key, options in nodes.items())
        ),
    )


DIAMOND = {"top": {}, "left": {"after": "top"}, "right": {"after": "top"}, "bottom": {"after": "left right", "args_from": "right left"}}


@pytest.fixture(params=KINDS, scope="module")
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with database_of(request.param, tmp_path_factory.mktemp("database")) as url:
        yield url


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    store = Store(url)
    store.database.transaction(_empty)
    yield store
    store.database.close()


def _empty(connection: Any) -> None:
    from celery_tw.stores.sql.tables import metadata  # noqa: PLC0415 - beside its only use

    for table in reversed(metadata.sorted_tables):
        if table is not schema:
            connection.execute(table.delete())


def test_a_diamond_runs_from_its_top_to_its_bottom(store: Store) -> None:
    assert store.submit(**DIAMOND) == {"top"}
    assert store.start("top")
    assert store.end("top") == {"left", "right"}
    assert store.end("right") == set()
    assert store.end("left") == {"bottom"}
    assert store.state is RunState.RUNNING
    assert store.end("bottom") == set()
    assert store.state is RunState.SUCCEEDED
    assert set(store.states().values()) == {"succeeded"}


def test_a_child_is_given_its_parents_results_in_its_own_order(store: Store) -> None:
    store.submit(**DIAMOND)
    store.end("top")
    store.end("left", Ended(NodeState.SUCCEEDED, '"l"'))
    settled = store.progress.end(store.id("right"), Ended(NodeState.SUCCEEDED, by_reference=True), now_ms=3)
    (bottom,) = settled.released
    assert [(given.key, given.value, given.by_reference) for given in bottom.args_from] == [("right", None, True), ("left", '"l"', False)]
    assert bottom.args_from[0].task_id == str(store.id("right"))


def test_an_end_is_accepted_once(store: Store) -> None:
    store.submit(**DIAMOND)
    top = store.id("top")
    assert store.progress.end(top, GOOD, now_ms=3).accepted
    assert store.progress.end(top, GOOD, now_ms=3) == Settled(False)
    assert store.progress.end(top, BAD, now_ms=3) == Settled(False)
    assert store.states() == {"top": "succeeded", "left": "queued", "right": "queued", "bottom": "pending"}


def test_an_end_that_is_refused_leaves_the_count_of_open_nodes(store: Store) -> None:
    store.submit(a={}, b={})
    first = store.id("a")
    store.end("a")
    for ended in (GOOD, BAD):
        assert not store.progress.end(first, ended, now_ms=4).accepted
    assert store.state is RunState.RUNNING
    store.end("b")
    assert store.state is RunState.SUCCEEDED


def test_an_edge_takes_as_few_statements_as_its_database_allows(store: Store) -> None:
    store.submit(a={}, b={"after": "a", "args_from": "a"}, c={})
    store.start("a")
    node_id, said = store.id("a"), []
    event.listen(store.database.engine, "before_cursor_execute", lambda *facts: said.append(facts[2].split()[0]))
    store.progress.end(node_id, GOOD, now_ms=3)
    answers = 0 if store.database.engine.dialect.update_returning else 3
    assert [said.count("UPDATE"), said.count("SELECT")] == [4, answers]


def test_a_submit_that_is_repeated_is_one_run(store: Store) -> None:
    assert store.submit(**DIAMOND) == {"top"}
    assert store.submit(**DIAMOND) == set()
    assert len(store.reading.runs(limit=10)) == 1


def test_submits_at_one_moment_are_one_run(store: Store) -> None:
    released = []
    at_once(8, lambda _: released.extend(store.submitting.submit(dag(**DIAMOND), run_id=RUN, idempotency_key="k", now_ms=1)))
    assert [each.key for each in released] == ["top"]
    assert len(store.reading.nodes(RUN)) == 4


def test_a_hundred_ends_at_one_moment_release_their_child_once(store: Store) -> None:
    parents = {f"p{number}": {} for number in range(100)}
    store.submit(**parents, join={"after": " ".join(parents)})
    ids = [NodeId.parse(each.task_id) for each in store.reading.nodes(RUN)][:100]
    released = []

    def end(number: int) -> None:
        for node_id in ids[number::8] + ids[number + 1 :: 8]:  # each end is told by two
            released.extend(store.progress.end(node_id, GOOD, now_ms=3).released)

    at_once(8, end)
    assert [each.key for each in released] == ["join"]
    assert store.states()["join"] == "queued"


def test_random_graphs_end_whole_whatever_the_order(store: Store) -> None:
    randomness = random.Random(11)
    for _ in range(5):
        store.database.transaction(_empty)
        keys = [f"n{number}" for number in range(40)]
        nodes = {key: {"after": " ".join(randomness.sample(keys[:at], min(at, randomness.randrange(5))))} for at, key in enumerate(keys)}
        open_keys, done = store.submit(**nodes), set()
        while open_keys:
            key = randomness.choice(sorted(open_keys))
            open_keys.remove(key)
            done.add(key)
            released = store.end(key)
            assert all(set(nodes[each]["after"].split()) <= done for each in released)
            assert not released & (open_keys | done)
            open_keys |= released
        assert done == set(keys)
        assert store.state is RunState.SUCCEEDED


@pytest.mark.parametrize(
    ("on_failure", "child", "grandchild", "run"),
    [
        (OnFailure.BLOCK, "blocked", "blocked", RunState.FAILED),
        (OnFailure.SKIP, "skipped", "skipped", RunState.SUCCEEDED),
        (OnFailure.RUN_ANYWAY, "queued", "pending", RunState.RUNNING),
    ],
)
def test_a_failure_means_for_what_comes_after_it_what_its_policy_says(
    store: Store, on_failure: OnFailure, child: str, grandchild: str, run: RunState
) -> None:
    store.submit(a={"on_failure": on_failure}, b={"after": "a"}, c={"after": "b"})
    store.end("a", BAD)
    assert store.states() == {"a": "failed", "b": child, "c": grandchild}
    assert store.state is run


def test_a_branch_that_fails_does_not_hold_up_another(store: Store) -> None:
    store.submit(a={}, bad={}, b={"after": "a"}, after_bad={"after": "bad"}, clean={"after": "b bad", "trigger": Trigger.ALL_DONE})
    store.end("bad", BAD)
    assert store.end("a") == {"b"}
    assert store.end("b") == {"clean"}
    assert store.states()["after_bad"] == "blocked"


def test_an_alarm_runs_when_one_of_its_parents_failed_and_is_skipped_otherwise(store: Store) -> None:
    store.submit(
        a={"on_failure": OnFailure.SKIP},
        b={},
        alarm={"after": "a b", "trigger": Trigger.ONE_FAILED},
        quiet={"after": "b", "trigger": Trigger.ONE_FAILED},
    )
    store.end("a", BAD)
    assert store.end("b") == {"alarm"}
    assert store.states()["quiet"] == "skipped"


def test_a_failed_node_runs_again_as_often_as_it_may_and_its_children_wait(store: Store) -> None:
    store.submit(a={"retries": 2}, b={"after": "a"})
    for attempt in (2, 3):
        assert store.end("a", BAD) == {"a"}
        assert store.id("a").attempt == attempt
        assert store.states() == {"a": "queued", "b": "pending"}
    assert store.end("a", BAD) == set()
    assert store.states() == {"a": "failed", "b": "blocked"}


def test_a_failed_node_waits_before_it_runs_again_twice_as_long_each_time(store: Store) -> None:
    store.submit(a={"retries": 2, "retry_delay_ms": 1000}, b={"after": "a"})
    for delay_ms in (1000, 2000):
        (released,) = store.progress.end(store.id("a"), BAD, now_ms=50).released
        assert (released.id, released.due_ms) == (store.id("a"), 50 + delay_ms)
        assert store.states() == {"a": "queued", "b": "pending"}
        (sent,) = store.progress.let_go(store.id("a"), now_ms=released.due_ms)
        assert (sent.id, sent.due_ms) == (store.id("a"), None)
        assert store.progress.let_go(store.id("a"), now_ms=released.due_ms) == []
    assert store.end("a", BAD) == set()


def test_a_node_that_waits_for_its_retry_waits_on_in_a_paused_run_and_no_more_in_a_cancelled_one(store: Store) -> None:
    store.submit(a={"retries": 1, "retry_delay_ms": 1000}, b={"retries": 1, "retry_delay_ms": 1000})
    store.end("a", BAD)
    store.end("b", BAD)
    store.control.pause(RUN, now_ms=60)
    assert store.progress.let_go(store.id("a"), now_ms=2000) == []
    assert store.states() == {"a": "ready", "b": "queued"}
    assert [each.key for each in store.control.resume(RUN, now_ms=2500).released] == ["a"]
    store.control.cancel(RUN, now_ms=3000)
    assert store.progress.let_go(store.id("b"), now_ms=3000) == []
    assert store.states() == {"a": "cancelled", "b": "cancelled"}


def test_a_revoked_node_is_not_tried_again(store: Store) -> None:
    store.submit(a={"retries": 2})
    assert store.end("a", Ended(NodeState.FAILED, error="revoked", final=True)) == set()
    assert store.states() == {"a": "failed"}


def test_an_older_attempt_has_nothing_to_say(store: Store) -> None:
    store.submit(a={"retries": 1}, b={"after": "a"})
    first = store.id("a")
    store.end("a", BAD)
    assert not store.progress.start(first, retries=0, alone=True, now_ms=2)
    assert not store.progress.end(first, GOOD, now_ms=3).accepted
    assert store.start("a")


# Copies


def test_one_copy_of_a_message_starts(store: Store) -> None:
    store.submit(a={})
    assert store.start("a")
    assert not store.start("a")
    assert store.end("a") == set()
    assert not store.start("a")


def test_celerys_own_retry_starts_and_its_copy_does_not(store: Store) -> None:
    store.submit(a={})
    assert [store.start("a", retries=retries) for retries in (0, 1, 1, 0, 2)] == [True, True, False, False, True]


def test_a_task_that_is_known_to_run_alone_starts_again(store: Store) -> None:
    store.submit(a={})
    assert store.start("a", alone=True)
    assert store.start("a", alone=True)


def test_what_was_given_back_to_the_broker_starts_again(store: Store) -> None:
    store.submit(a={})
    store.start("a", retries=3)
    store.progress.give_back(store.id("a"))
    assert store.start("a", retries=3)


def test_who_runs_says_so_again_though_its_beginning_was_forgotten(store: Store) -> None:
    store.submit(a={})
    store.progress.beat([store.id("a")])
    assert store.states() == {"a": "running"}
    assert not store.start("a")
    store.end("a")
    store.progress.beat([NodeId(RUN, 0, 1)])
    assert store.states() == {"a": "succeeded"}


# By hand


def test_a_paused_run_begins_nothing_and_goes_on_where_it_was(store: Store) -> None:
    store.submit(**DIAMOND)
    store.control.pause(RUN, now_ms=2)
    assert store.end("top") == set()
    assert store.states() == {"top": "succeeded", "left": "ready", "right": "ready", "bottom": "pending"}
    released = store.control.resume(RUN, now_ms=4).released
    assert {each.key for each in released} == {"left", "right"}
    assert store.end("left") == set()
    assert store.end("right") == {"bottom"}


def test_pausing_and_resuming_twice_changes_nothing(store: Store) -> None:
    store.submit(**DIAMOND)
    store.control.pause(RUN, now_ms=2)
    store.control.pause(RUN, now_ms=2)
    store.control.resume(RUN, now_ms=2)
    assert store.control.resume(RUN, now_ms=2).released == ()
    assert store.state is RunState.RUNNING


def test_a_cancelled_run_ends_what_waits_and_names_what_runs(store: Store) -> None:
    store.submit(a={"retries": 3}, b={}, c={"after": "a"})
    store.start("a")
    changed = store.control.cancel(RUN, now_ms=2)
    assert changed.running == (store.id("a"),)
    assert store.states() == {"a": "running", "b": "cancelled", "c": "cancelled"}
    assert not store.start("b")
    assert store.end("a", BAD) == set()
    assert store.states()["a"] == "cancelled"
    assert store.state is RunState.CANCELLED
    assert store.reading.run(RUN).counts == {NodeState.CANCELLED: 3}


def test_what_ended_cannot_be_paused_resumed_or_cancelled(store: Store) -> None:
    store.submit(a={})
    store.end("a")
    for verb in (store.control.pause, store.control.resume, store.control.cancel):
        with pytest.raises(InvalidDag, match="has ended"):
            verb(RUN, now_ms=4)


def test_a_run_is_repaired_from_the_node_that_failed(store: Store) -> None:
    store.submit(a={}, b={"after": "a"}, c={"after": "b"}, other={}, end={"after": "c other"})
    store.end("other")
    store.end("a")
    store.end("b", BAD)
    assert store.state is RunState.FAILED
    assert store.states() == {"a": "succeeded", "b": "failed", "c": "blocked", "other": "succeeded", "end": "blocked"}
    changed = store.control.retry(RUN, "b", now_ms=5)
    assert {each.key for each in changed.released} == {"b"}
    assert store.state is RunState.RUNNING
    assert store.end("b") == {"c"}
    assert store.end("c") == {"end"}
    store.end("end")
    assert store.state is RunState.SUCCEEDED


def test_a_retried_node_takes_all_that_comes_after_it_along(store: Store) -> None:
    store.submit(**DIAMOND)
    for key in ("top", "left", "right", "bottom"):
        store.end(key)
    old_bottom = store.id("bottom")
    store.control.retry(RUN, "left", now_ms=5)
    assert store.states() == {"top": "succeeded", "left": "queued", "right": "succeeded", "bottom": "pending"}
    assert store.end("left") == {"bottom"}
    assert store.id("bottom").attempt == old_bottom.attempt + 1


def test_everything_that_failed_can_be_retried_at_once(store: Store) -> None:
    store.submit(a={}, b={}, c={}, end={"after": "a b c"})
    for key in ("a", "b"):
        store.end(key, BAD)
    store.end("c")
    assert {each.key for each in store.control.retry(RUN, None, now_ms=5).released} == {"a", "b"}
    store.end("a")
    assert store.end("b") == {"end"}


def test_a_cancelled_run_goes_on_when_all_of_it_is_retried(store: Store) -> None:
    store.submit(**DIAMOND)
    store.end("top")
    store.control.cancel(RUN, now_ms=3)
    assert {each.key for each in store.control.retry(RUN, None, now_ms=5).released} == {"left", "right"}
    assert store.state is RunState.RUNNING


def test_a_node_marked_done_lets_go_on_what_was_blocked_by_it(store: Store) -> None:
    store.submit(a={}, b={"after": "a", "args_from": "a"}, z={}, c={"after": "b z"})
    store.end("a", BAD)
    assert store.states() == {"a": "failed", "b": "blocked", "z": "queued", "c": "pending"}
    (released,) = store.control.mark_done(RUN, "a", "[7]", now_ms=5).released
    assert (released.key, released.args_from[0].value) == ("b", "[7]")
    assert store.end("z") == set()  # c waits for b again
    assert store.end("b") == {"c"}


def test_a_node_marked_done_while_it_runs_is_done_and_what_it_says_later_is_dropped(store: Store) -> None:
    store.submit(a={}, b={"after": "a"})
    store.start("a")
    running = store.id("a")
    assert [each.key for each in store.control.mark_done(RUN, "a", None, now_ms=5).released] == ["b"]
    assert not store.progress.end(running, BAD, now_ms=6).accepted


def test_what_cannot_be_retried_or_marked_is_refused(store: Store) -> None:
    store.submit(a={}, b={"after": "a"})
    with pytest.raises(InvalidDag, match="has not ended"):
        store.control.retry(RUN, "a", now_ms=5)
    with pytest.raises(InvalidDag, match="no node that failed"):
        store.control.retry(RUN, None, now_ms=5)
    with pytest.raises(UnknownNode):
        store.control.retry(RUN, "x", now_ms=5)
    with pytest.raises(UnknownDagRun):
        store.control.retry("b" * 32, "a", now_ms=5)
    store.end("a")
    with pytest.raises(InvalidDag, match="succeeded already"):
        store.control.mark_done(RUN, "a", None, now_ms=5)


def test_whatever_is_done_to_a_run_its_countdown_is_right(store: Store) -> None:
    """A thousand random verbs; after each, every waiting node waits for exactly its unended parents, and the run knows its open nodes."""
    randomness = random.Random(5)
    keys = [f"n{number}" for number in range(12)]
    nodes = {
        key: {
            "after": " ".join(randomness.sample(keys[:at], min(at, randomness.randrange(4)))),
            "on_failure": randomness.choice(list(OnFailure)),
            "trigger": randomness.choice([None, None, *Trigger]),
            "retries": randomness.choice([0, 0, 1]),
        }
        for at, key in enumerate(keys)
    }
    store.submit(**nodes)
    verbs = [store.control.pause, store.control.resume, store.control.cancel]
    for _ in range(150):
        key = randomness.choice(keys)
        try:
            what = randomness.randrange(20)
            if what < 12:
                store.progress.end(store.id(key), randomness.choice([GOOD, BAD]), now_ms=3)
            elif what < 15:
                store.control.retry(RUN, randomness.choice([key, None]), now_ms=3)
            elif what < 16:
                store.control.mark_done(RUN, key, None, now_ms=3)
            else:
                randomness.choice(verbs)(RUN, now_ms=3)
        except InvalidDag:
            pass
        check_countdown(store)


def check_countdown(store: Store) -> None:
    found = store.reading.nodes(RUN)
    states = {each.number: each.state for each in found}
    columns = select(node.c.number, node.c.unresolved).where(node.c.run_id == RUN)
    unresolved = dict(store.database.transaction(lambda connection: connection.execute(columns).all()))
    run = store.reading.run(RUN)
    for each in found:
        if each.state is NodeState.PENDING:
            assert unresolved[each.number] == sum(states[parent] not in ENDED for parent in each.after), each
            assert unresolved[each.number] > 0, each
    open_nodes = sum(state not in ENDED for state in states.values())
    assert store.database.transaction(lambda connection: _open_nodes(connection)) == open_nodes
    assert (run.state in (RunState.RUNNING, RunState.PAUSED)) == bool(open_nodes) or run.state is RunState.CANCELLED
    if run.state is RunState.PAUSED:
        assert NodeState.READY in states.values() or any(state is not NodeState.READY for state in states.values())


def _open_nodes(connection: Any) -> int:
    from celery_tw.stores.sql.tables import run  # noqa: PLC0415 - the name is a fixture's elsewhere

    return connection.execute(select(run.c.open_nodes).where(run.c.id == RUN)).scalar()


# The leader


def test_a_silent_node_is_queued_again_as_the_same_attempt(store: Store) -> None:
    store.submit(a={})
    before = store.id("a")
    store.start("a", retries=2)
    (pulse,) = store.sweeping.pulses()
    (released,) = store.sweeping.send_again(pulse, epoch=1, most=3, now_ms=9).released
    assert released.id == before
    assert store.start("a", retries=0)


def test_a_node_that_moves_at_that_moment_is_left_alone(store: Store) -> None:
    store.submit(a={})
    store.start("a")
    (pulse,) = store.sweeping.pulses()
    store.progress.beat([store.id("a")])
    assert not store.sweeping.send_again(pulse, epoch=1, most=3, now_ms=9).accepted


def test_a_node_lost_too_often_has_failed(store: Store) -> None:
    store.submit(a={"retries": 1}, b={"after": "a"})
    for attempt in (1, 2):
        for _ in range(2):
            assert store.id("a").attempt == attempt
            store.start("a")
            (pulse,) = store.sweeping.pulses()
            store.sweeping.send_again(pulse, epoch=1, most=1, now_ms=9)
    assert store.states() == {"a": "failed", "b": "blocked"}
    assert "lost" in store.reading.nodes(RUN)[0].error


def test_a_replaced_leader_writes_nothing(store: Store) -> None:
    store.submit(a={})
    (pulse,) = store.sweeping.pulses()
    assert store.sweeping.forget(before_ms=0, epoch=5) == 0
    with pytest.raises(StaleEpoch):
        store.sweeping.send_again(pulse, epoch=4, most=3, now_ms=9)
    with pytest.raises(StaleEpoch):
        store.sweeping.forget(before_ms=100, epoch=4)
    assert store.sweeping.pulses() == [pulse]
    assert store.sweeping.send_again(pulse, epoch=6, most=3, now_ms=9).accepted


def test_runs_are_forgotten_some_time_after_their_end(store: Store) -> None:
    store.submit(a={}, b={"after": "a"})
    assert store.sweeping.forget(before_ms=100, epoch=1) == 0
    store.end("a")
    store.end("b")
    assert store.sweeping.forget(before_ms=3, epoch=1) == 0
    assert store.sweeping.forget(before_ms=4, epoch=1) == 1
    with pytest.raises(UnknownDagRun):
        store.reading.run(RUN)
    assert store.reading.nodes(RUN) == []


# Definitions and tables


def test_an_equal_definition_is_kept_once_and_comes_back_as_it_was(store: Store) -> None:
    spec = dag(a={"retries": 2, "on_failure": OnFailure.SKIP}, b={"after": "a", "trigger": Trigger.ALL_DONE, "args_from": "a"})
    name = store.submitting.define(spec, now_ms=1)
    assert store.submitting.define(spec, now_ms=2) == name == digest(spec.encode())
    assert store.submitting.defined(name) == spec
    with pytest.raises(UnknownDagRun):
        store.submitting.defined("0" * 64)


@pytest.mark.parametrize(("text", "error"), [("{", MalformedRecord), ('{"v":1}', MalformedRecord), ('{"v":99}', NewerSchema)])
def test_a_definition_that_cannot_be_read_is_no_other(text: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        DagSpec.decode(text)


def test_tables_are_made_by_several_at_once_and_those_of_a_newer_version_left_alone(store: Store, url: str) -> None:
    store.database.transaction(lambda connection: _drop(connection))
    at_once(4, lambda _: set_up_and_close(url))
    store.submit(a={})
    store.database.transaction(lambda connection: connection.execute(update(schema).values(version=99)))
    try:
        with pytest.raises(NewerSchema):
            set_up(store.database)
    finally:
        store.database.transaction(lambda connection: connection.execute(update(schema).values(version=VERSION)))


def test_tables_of_an_older_version_get_what_they_lack_and_keep_what_they_have(store: Store, url: str) -> None:
    store.submit(a={}, b={"after": "a"})
    for table, column in ADDED_SINCE_THE_FIRST_VERSION:
        store.database.transaction(lambda connection: connection.execute(text(f"ALTER TABLE {table} DROP COLUMN {column}")))  # noqa: B023 - used at once
    store.database.transaction(lambda connection: connection.execute(update(schema).values(version=1)))

    at_once(4, lambda _: set_up_and_close(url))

    assert store.database.transaction(stored_version) == VERSION
    assert store.end("a") == {"b"}
    assert store.end("b") == set()


def set_up_and_close(url: str) -> None:
    database = Database(url)
    try:
        set_up(database)
    finally:
        database.close()


def _drop(connection: Any) -> None:
    from celery_tw.stores.sql.tables import metadata  # noqa: PLC0415 - beside its only use

    metadata.drop_all(connection)


@pytest.mark.parametrize(
    "url", ["postgresql+psycopg://postgres@127.0.0.1:1/x", "sqlite:////nowhere/at/all/x.db"], ids=["postgres", "sqlite"]
)
def test_a_database_that_does_not_answer_is_an_error_of_ours(url: str) -> None:
    with pytest.raises(DatabaseUnavailable, match="does not answer"):
        set_up(Database(url))


@pytest.mark.parametrize("scheme", ["postgresql+psycopg", "mysql+pymysql"])
def test_a_server_that_is_silent_is_one_that_does_not_answer(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(DatabaseUnavailable, match="does not answer"):
            set_up(Database(f"{scheme}://user@127.0.0.1:{port}/x?connect_timeout=2"))


@pytest.mark.parametrize(("took_s", "calls"), [(0.0, 2), (30.0, 1)], ids=["at once", "after a time-out"])
def test_a_verb_is_repeated_on_another_connection_only_when_its_own_was_dead_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, took_s: float, calls: int
) -> None:
    now_s, made = [0.0], []
    monkeypatch.setattr("celery_tw.stores.sql.database.time.monotonic", lambda: now_s[0])

    def fails(connection: Any) -> None:
        made.append(connection)
        now_s[0] += took_s
        raise OperationalError("SELECT 1", {}, Exception("gone"), connection_invalidated=True)

    database = Database(f"sqlite:///{tmp_path / 'dags.db'}")
    with pytest.raises(DatabaseUnavailable):
        database.look(fails)
    database.close()
    assert len(made) == calls


@pytest.mark.parametrize("move", ["start", "end"])
def test_a_connection_that_the_server_has_ended_costs_no_verb(store: Store, url: str, move: str) -> None:
    others = "datname = current_database() AND pid <> pg_backend_pid()"
    endings = {
        "postgresql": f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}",
        "mysql": "SELECT concat('KILL ', id) FROM information_schema.processlist WHERE db = database() AND id <> connection_id()",
    }
    ending = endings.get(store.database.engine.dialect.name)
    if ending is None:
        pytest.skip("a file has no server")
    store.submit(a={})
    if move == "end":
        store.start("a")
    node_id, other = store.id("a"), Database(url)
    for (said,) in other.look(lambda connection: connection.execute(text(ending)).all()):
        if isinstance(said, str):
            other.look(lambda connection, kill=said: connection.execute(text(kill)))
    other.close()

    if move == "start":
        assert store.progress.start(node_id, retries=0, alone=False, now_ms=2)
    else:
        assert store.progress.end(node_id, GOOD, now_ms=3).accepted


def at_once(number: int, work: Any) -> None:
    """Call *work* in that many threads at one moment, with 0, 1, …; raise what one raised."""
    barrier, errors = threading.Barrier(number), []

    def call(which: int) -> None:
        barrier.wait()
        try:
            work(which)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=call, args=(which,)) for which in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
