"""What the leader does for nodes that nobody speaks for, on a clock of the test's own."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import redis

from celery_tw.clock import RedisTime
from celery_tw.core.dag_spec import DagSpec, NodeSpec
from celery_tw.core.dag_state import NodeState, RunState
from celery_tw.core.node_id import NodeId
from celery_tw.dags.sweeper import Sweeper
from celery_tw.errors import UnknownDagRun
from celery_tw.leadership.elector import Elector
from celery_tw.stores.redis.election import Election
from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.sql.database import Database
from celery_tw.stores.sql.progress import Ended, Progress, Settled
from celery_tw.stores.sql.reading import Reading
from celery_tw.stores.sql.set_up import set_up
from celery_tw.stores.sql.submitting import Submitting
from celery_tw.stores.sql.sweeping import CountedRun, Sweeping
from celery_tw.testing.manual_clock import ManualClock

RUN = "a" * 32
TIMEOUT_MS = 4000
EXPIRES_MS = 100_000
COUNTED_MS = 20_000
A = NodeId(RUN, 0, 1)


@dataclass
class Watch:
    """A leader that sweeps, and what came of it."""

    database: Database
    clock: ManualClock
    elector: Elector
    known: dict[str, Ended] = field(default_factory=dict)
    settled: list[tuple[NodeId, Settled]] = field(default_factory=list)
    followed: list[CountedRun] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.progress = Progress(self.database)
        self.reading = Reading(self.database, "shop")
        self.sweeper = Sweeper(
            sweeping=lambda: Sweeping(self.database, "shop"),
            progress=lambda: self.progress,
            elector=self.elector,
            clock=self.clock,
            timeout_ms=TIMEOUT_MS,
            most=lambda _: 1,
            expires_ms=EXPIRES_MS,
            end_of=self.known.get,
            settle=lambda node_id, settled: self.settled.append((node_id, settled)),
            follow=self.followed.extend,
            counted_ms=COUNTED_MS,
        )

    def submit(self, run_id: str = RUN, *, entry: str | None = None) -> None:
        spec = DagSpec("etl", (NodeSpec(key="a", task="t", signature="{}"), NodeSpec(key="b", task="t", signature="{}", after=(0,))))
        Submitting(self.database, "shop").submit(spec, run_id=run_id, idempotency_key=None, now_ms=self.clock.wall_ms(), entry=entry)

    def start(self) -> bool:
        return self.progress.start(A, retries=0, alone=False, now_ms=self.clock.wall_ms())

    def pass_by(self, ms: int) -> list[str]:
        """Let time pass, leading and sweeping; return which nodes were sent meanwhile."""
        before = len(self.settled)
        for _ in range(ms // 500):
            self.clock.advance(500)
            self.elector.step()
            self.sweeper.step()
        return [released.key for _, settled in self.settled[before:] for released in settled.released]


@pytest.fixture
def watch(database_url: str, redis_client: redis.Redis) -> Iterator[Watch]:
    database, clock = Database(database_url), ManualClock()
    set_up(database)
    election = Election(redis_client, Keys("shop"))
    elector = Elector(election, clock=clock, redis_time=RedisTime(clock), owner="first", lease_ms=3000, max_skew_ms=5000)
    watch = Watch(database, clock, elector)
    watch.submit()
    watch.pass_by(500)
    yield watch
    database.close()


def test_a_queued_node_that_does_not_start_is_sent_again_less_and_less_often(watch: Watch) -> None:
    assert watch.pass_by(TIMEOUT_MS - 500) == []
    assert watch.pass_by(1000) == ["a"]
    assert watch.pass_by(2 * TIMEOUT_MS - 1000) == []
    assert watch.pass_by(1500) == ["a"]
    assert watch.reading.nodes(RUN)[0].attempt == 1


def test_a_running_node_that_beats_is_left_alone_and_one_that_is_silent_is_sent_again(watch: Watch) -> None:
    assert watch.start()
    for _ in range(10):
        watch.progress.beat([A])
        assert watch.pass_by(2000) == []
    assert watch.pass_by(TIMEOUT_MS + 500) == ["a"]
    assert watch.start()


def test_a_node_that_is_lost_too_often_fails_and_the_run_ends(watch: Watch) -> None:
    for _ in range(2):
        assert watch.start()
        watch.pass_by(TIMEOUT_MS + 1000)
    assert [str(node.state) for node in watch.reading.nodes(RUN)] == ["failed", "blocked"]
    assert watch.reading.state(RUN) is RunState.FAILED


def test_a_node_that_had_ended_unheard_is_taken_at_the_word_of_the_result_backend(watch: Watch) -> None:
    assert watch.start()
    watch.known[str(A)] = Ended(NodeState.SUCCEEDED, "7")
    assert watch.pass_by(TIMEOUT_MS + 1000) == ["b"]
    assert watch.reading.result(RUN, "a")[1].value == "7"


def test_a_node_whose_retry_is_still_to_come_is_waited_for(watch: Watch) -> None:
    assert watch.start()
    watch.progress.wait(A, until_ms=watch.clock.wall_ms() + 10 * TIMEOUT_MS)
    assert watch.pass_by(10 * TIMEOUT_MS) == []
    assert watch.pass_by(TIMEOUT_MS + 500) == ["a"]


def test_who_does_not_lead_sends_nothing(watch: Watch) -> None:
    watch.elector.resign()
    for _ in range(20):
        watch.clock.advance(TIMEOUT_MS)
        watch.sweeper.step()
    assert watch.settled == []


def test_a_run_is_forgotten_when_it_ended_long_ago(watch: Watch) -> None:
    watch.progress.end(A, Ended(NodeState.FAILED), now_ms=watch.clock.wall_ms())
    watch.pass_by(EXPIRES_MS - 1000)
    assert watch.reading.state(RUN) is RunState.FAILED
    watch.pass_by(62_000)
    with pytest.raises(UnknownDagRun):
        watch.reading.state(RUN)


def test_a_run_that_counts_as_a_fire_is_followed_until_nobody_can_take_it_for_open(watch: Watch) -> None:
    run_id = "b" * 32
    watch.submit(run_id, entry="nightly")
    watch.pass_by(1000)
    assert set(watch.followed) == {CountedRun(run_id, "nightly", RunState.RUNNING)}

    watch.progress.end(NodeId(run_id, 0, 1), Ended(NodeState.FAILED), now_ms=watch.clock.wall_ms())
    watch.followed.clear()
    watch.pass_by(COUNTED_MS - 1000)
    assert set(watch.followed) == {CountedRun(run_id, "nightly", RunState.FAILED)}

    watch.pass_by(2000)
    watch.followed.clear()
    watch.pass_by(2000)
    assert watch.followed == []
