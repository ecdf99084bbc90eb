"""One leader at a time, a dead one replaced, a stale one harmless."""

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
import redis

from celery_tw import failpoints
from celery_tw.clock import RedisTime
from celery_tw.core.term import Term
from celery_tw.errors import StaleEpoch, StoreUnavailable
from celery_tw.events import clock_stepped, leadership_lost, leadership_taken
from celery_tw.leadership.elector import Elector
from celery_tw.stores.redis.codec import SCHEMA
from celery_tw.stores.redis.election import Election, Held
from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.redis.timetable import Timetable
from celery_tw.testing.manual_clock import ManualClock
from tests.waiting import wait_until

LEASE_MS = 3000
KEYS = Keys("shop")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def make_elector(redis_client: redis.Redis, clock: ManualClock) -> Callable[..., Elector]:
    def make(owner: str, *, client: Any = None, own_clock: ManualClock | None = None) -> Elector:
        ticking = own_clock or clock
        return Elector(
            Election(client or redis_client, KEYS),
            clock=ticking,
            redis_time=RedisTime(ticking),
            owner=owner,
            lease_ms=LEASE_MS,
            max_skew_ms=5000,
        )

    return make


def test_the_first_to_ask_leads_and_the_second_stands_by(make_elector: Callable[..., Elector]) -> None:
    first, second = make_elector("first"), make_elector("second")

    first.step()
    second.step()

    assert first.leads()
    assert not second.leads()
    assert second.holder is not None
    assert second.holder.owner == "first"


def test_a_term_says_which_shard_is_led_by_whom_and_for_how_long(make_elector: Callable[..., Elector], clock: ManualClock) -> None:
    elector = make_elector("first")
    asked_ms = clock.boot_ms()

    elector.step()

    assert elector.term is not None
    assert elector.term == Term(0, "first", elector.term.epoch, trusted_until_ms=asked_ms + LEASE_MS - LEASE_MS // 10)


def test_a_scheduler_that_leaves_is_listed_no_more(make_elector: Callable[..., Elector]) -> None:
    first, second = make_elector("first"), make_elector("second")
    first.step()
    second.step()

    first.leave()

    assert not first.leads()
    assert set(second.election.members()) == {"second"}


def test_a_resignation_lets_the_next_one_lead_with_a_higher_epoch(make_elector: Callable[..., Elector]) -> None:
    first, second = make_elector("first"), make_elector("second")
    first.step()
    assert first.term is not None
    old = first.term.epoch

    first.resign()
    second.step()

    assert second.term is not None
    assert second.term.epoch > old
    assert first.term is None


def test_a_late_resignation_does_not_end_a_newer_term(make_elector: Callable[..., Elector]) -> None:
    first, second = make_elector("first"), make_elector("second")
    first.step()
    assert first.term is not None
    first.election.resign(first.term.epoch)
    second.step()

    first.resign()
    second.step()

    assert second.leads()


def test_a_leader_stops_trusting_its_term_before_the_lease_ends(make_elector: Callable[..., Elector], clock: ManualClock) -> None:
    leader = make_elector("leader")
    leader.step()

    clock.advance(2600)
    assert leader.leads()
    clock.advance(100)

    assert not leader.leads()


def test_a_leader_that_cannot_reach_redis_stops_by_its_own_clock(make_elector: Callable[..., Elector], clock: ManualClock) -> None:
    away = redis.Redis(unix_socket_path="/nowhere", retry=None)
    leader = make_elector("leader")
    leader.step()
    leader.election = Election(away, KEYS)

    with pytest.raises(StoreUnavailable):
        leader.step()
    assert leader.term is not None
    clock.advance(LEASE_MS)
    with pytest.raises(StoreUnavailable):
        leader.step()

    assert leader.term is None


def test_a_renewal_whose_answer_never_came_prolongs_nothing(
    make_elector: Callable[..., Elector], clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = make_elector("leader")
    leader.step()
    before, counter = leader.term, leader.election.leader()[0]["counter"]
    monkeypatch.setattr(failpoints, "_armed", failpoints.parse("K6:raise:StoreUnavailable"))
    monkeypatch.setattr(failpoints, "_passes", count(1))
    clock.advance(1000)

    with pytest.raises(StoreUnavailable):
        leader.step()

    assert leader.term == before
    assert leader.election.leader()[0]["counter"] != counter, "the store renewed it"


def test_a_leader_that_resigns_has_stopped_before_the_store_knows_it(
    make_elector: Callable[..., Elector], monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = make_elector("leader")
    leader.step()
    monkeypatch.setattr(failpoints, "_armed", failpoints.parse("K7:raise:StoreUnavailable"))
    monkeypatch.setattr(failpoints, "_passes", count(1))

    with pytest.raises(StoreUnavailable):
        leader.resign()

    assert not leader.leads()
    assert leader.election.leader()[0] != {}


def test_a_leader_whose_key_is_gone_stands_by_and_may_lead_again(make_elector: Callable[..., Elector], redis_client: redis.Redis) -> None:
    leader = make_elector("leader")
    leader.step()
    assert leader.term is not None
    before = leader.term.epoch
    redis_client.delete(KEYS.leader)

    leader.step()
    assert leader.term is None
    leader.step()

    assert leader.term is not None
    assert leader.term.epoch > before


def test_epochs_grow_even_when_the_counter_is_lost(make_elector: Callable[..., Elector], redis_client: redis.Redis) -> None:
    leader = make_elector("leader")
    leader.step()
    assert leader.term is not None
    before = leader.term.epoch
    wait_until(lambda: Timetable(redis_client, KEYS).now_ms() > before)
    redis_client.flushall()

    leader.step()
    leader.step()

    assert leader.term is not None
    assert leader.term.epoch > before


def test_silence_is_judged_by_the_counter_not_by_the_key(
    make_elector: Callable[..., Elector], redis_client: redis.Redis, clock: ManualClock
) -> None:
    dead, other = make_elector("dead"), make_elector("other")
    dead.step()
    redis_client.persist(KEYS.leader)  # as when the server's clock was set back: the lease does not run out

    for _ in range(LEASE_MS // 250 + 2):
        other.step()
        clock.advance(250)

    assert other.leads()
    dead.step()
    assert dead.term is None


def test_a_living_leader_is_never_replaced(make_elector: Callable[..., Elector], clock: ManualClock) -> None:
    leader, other = make_elector("leader"), make_elector("other")

    for _ in range(100):
        leader.step()
        other.step()
        clock.advance(250)

    assert leader.leads()
    assert not other.leads()


def test_a_stand_by_that_lost_redis_begins_its_watch_anew(make_elector: Callable[..., Elector], clock: ManualClock) -> None:
    leader, other = make_elector("leader"), make_elector("other")
    leader.step()
    other.step()
    reachable, other.election = other.election, Election(redis.Redis(unix_socket_path="/nowhere", retry=None), KEYS)
    clock.advance(LEASE_MS * 2)
    with pytest.raises(StoreUnavailable):
        other.step()
    other.election = reachable

    other.step()

    assert not other.leads()


def test_two_observers_of_one_silence_cannot_both_take_over(make_elector: Callable[..., Elector], redis_client: redis.Redis) -> None:
    election = make_elector("dead").election
    election.acquire("dead", lease_ms=LEASE_MS)
    held = election.acquire("b", lease_ms=LEASE_MS)
    assert isinstance(held, Held)

    first = election.acquire("b", lease_ms=LEASE_MS, still=held)
    second = election.acquire("c", lease_ms=LEASE_MS, still=held)

    assert not isinstance(first, Held)
    assert isinstance(second, Held)


def test_an_older_version_does_not_lead_over_newer_data(make_elector: Callable[..., Elector], redis_client: redis.Redis) -> None:
    redis_client.set(KEYS.schema, SCHEMA + 1)
    elector = make_elector("old")

    elector.step()

    assert not elector.leads()


def test_the_silent_are_struck_from_the_list(make_elector: Callable[..., Elector], clock: ManualClock) -> None:
    leader, other = make_elector("leader"), make_elector("other")
    leader.step()
    other.step()
    assert set(leader.election.members()) == {"leader", "other"}

    for _ in range(20):
        clock.advance(1000)
        leader.step()

    assert set(leader.election.members()) == {"leader"}


class TestAStepOfRedisTime:
    """The server's clock jumps ahead: on the leader's side that is a sample far from where boot time carried the last one."""

    def lead_through_a_step(self, elector: Elector, clock: ManualClock, *, shared: bool) -> None:
        elector.step()
        clock.advance(1000)
        elector.step()
        # Redis time cannot be set from here; boot time standing still for an hour's worth of samples looks the same.
        elector.redis_time.observe(elector.redis_time.now_ms() - 3_600_000)
        if not shared:
            clock.step_wall(-3_600_000)
        clock.advance(1000)
        elector.step()

    def test_holds_dispatch_until_it_is_judged(self, make_elector: Callable[..., Elector], clock: ManualClock) -> None:
        elector = make_elector("leader")

        self.lead_through_a_step(elector, clock, shared=False)

        assert elector.dispatch_held
        assert elector.election.clock_hold() is None, "it is judged a lease later"
        assert elector.leads()

    def test_that_no_other_clock_shares_holds_dispatch_for_a_person(self, make_elector: Callable[..., Elector], clock: ManualClock) -> None:
        elector = make_elector("leader")
        self.lead_through_a_step(elector, clock, shared=False)

        for _ in range(5):
            clock.advance(1000)
            elector.step()
            assert elector.dispatch_held, "before, at and after the verdict"

        assert elector.election.clock_hold() is not None
        assert elector.election.accept_clock()
        clock.advance(1000)
        elector.step()
        assert not elector.dispatch_held


def test_a_renewal_drops_news_that_everybody_has_heard(make_elector: Callable[..., Elector], redis_client: redis.Redis) -> None:
    leader = make_elector("first")
    leader.step()
    redis_client.xadd(KEYS.news, {"n": 1}, id="1000-0")
    redis_client.xadd(KEYS.news, {"n": 2})

    leader.step()

    assert [item[b"n"] for _, item in redis_client.xrange(KEYS.news)] == [b"2"]


def test_each_step_says_when_the_next_is_due(make_elector: Callable[..., Elector], redis_client: redis.Redis) -> None:
    leader, other = make_elector("first"), make_elector("second")

    assert leader.step() == LEASE_MS // 3
    assert leader.step() == LEASE_MS // 3
    assert other.step() == 250
    redis_client.delete(KEYS.leader)
    assert leader.step() == 0, "a term that is over is followed by an attempt at once"
    redis_client.set(KEYS.schema, SCHEMA + 1)
    assert other.step() == 5000


def test_a_process_that_is_unfit_stands_down_once_and_tries_again_later(make_elector: Callable[..., Elector]) -> None:
    elector = make_elector("unfit")
    elector.step()

    elector.ask_to_stand_down("its data is newer")

    assert elector.step() == 5000
    assert elector.term is None
    assert elector.election.leader()[0] == {}
    elector.step()
    assert elector.leads()


def test_each_line_counts_up_and_says_who_leads(make_elector: Callable[..., Elector], clock: ManualClock) -> None:
    leader, other = make_elector("first"), make_elector("second")
    for times in (1, 2, 3):
        leader.step()
        other.step()
        lines = leader.election.members()
        assert [(lines[name]["counter"], lines[name]["leads"]) for name in ("first", "second")] == [(times, True), (times, False)]
        clock.advance(LEASE_MS // 3)


def test_a_line_is_written_once_per_third_of_a_lease(make_elector: Callable[..., Elector], clock: ManualClock) -> None:
    other = make_elector("other")
    for _ in range(9):
        other.step()
        clock.advance(LEASE_MS // 12)

    assert other.election.members()["other"]["counter"] == 3


def test_a_stand_by_learns_redis_time_too(make_elector: Callable[..., Elector], redis_client: redis.Redis, clock: ManualClock) -> None:
    leader, other = make_elector("first"), make_elector("second")
    leader.step()
    other.step()

    assert abs(other.redis_time.now_ms() - Timetable(redis_client, KEYS).now_ms()) < 5000
    assert abs(other.redis_time.now_ms() - clock.wall_ms()) > 5000


def test_a_hold_by_an_earlier_leader_is_taken_over_with_the_lead(make_elector: Callable[..., Elector]) -> None:
    first, second = make_elector("first"), make_elector("second")
    first.step()
    assert first.term is not None
    first.election.hold_clock(first.term.epoch, step_ms=9000)
    first.resign()

    second.step()

    assert second.dispatch_held


def test_a_step_within_the_allowance_holds_nothing(make_elector: Callable[..., Elector], clock: ManualClock) -> None:
    elector = make_elector("leader")
    elector.step()
    elector.redis_time.observe(elector.redis_time.now_ms() - 4000)

    clock.advance(1000)
    elector.step()

    assert not elector.dispatch_held


@pytest.mark.parametrize(("step_ms", "counts"), [(5000, False), (5001, True)])
def test_a_step_counts_when_it_goes_beyond_the_allowance(
    make_elector: Callable[..., Elector], clock: ManualClock, caplog: pytest.LogCaptureFixture, step_ms: int, counts: bool
) -> None:
    elector = make_elector("leader")
    far_ms = (
        4_000_000_000_000  # no real server's clock can be set from here; this is later than any shows, and to go back counts for nothing
    )
    elector._observe(far_ms, clock.boot_ms())

    elector._observe(far_ms + step_ms, clock.boot_ms())
    elector.step()

    assert elector.dispatch_held is counts
    assert (f"Redis time stepped by {step_ms} ms" in caplog.text) is counts


def let_it_be_judged(elector: Elector, clock: ManualClock) -> None:
    """Let a leader look so often that it knows whether the other clocks share a step."""
    for _ in range(4):
        clock.advance(1000)
        elector.step()


def test_a_step_that_the_other_clocks_share_is_let_pass(make_elector: Callable[..., Elector], clock: ManualClock) -> None:
    elector = make_elector("leader")
    elector.step()
    clock.advance(1000)
    elector.step()
    elector.redis_time.observe(elector.redis_time.now_ms() - 3_600_000)
    clock.advance(1000)
    elector.step()
    assert elector.dispatch_held

    let_it_be_judged(elector, clock)

    assert elector.election.clock_hold() is None
    assert not elector.dispatch_held


def test_a_wall_clock_that_was_set_some_time_before_a_step_shares_it_all_the_same(
    make_elector: Callable[..., Elector], clock: ManualClock
) -> None:
    elector = make_elector("leader")
    elector.step()
    clock.advance(1000)
    clock.step_wall(-60_000)
    elector.step()
    clock.advance(1000)
    elector.step()

    elector.redis_time.observe(elector.redis_time.now_ms() - 3_600_000)
    clock.advance(1000)
    elector.step()
    assert elector.dispatch_held
    let_it_be_judged(elector, clock)

    assert elector.election.clock_hold() is None
    assert not elector.dispatch_held


def test_a_step_seen_by_a_stand_by_is_the_leaders_to_judge(make_elector: Callable[..., Elector], clock: ManualClock) -> None:
    leader, other = make_elector("first"), make_elector("second")
    leader.step()
    other.step()
    other.redis_time.observe(other.redis_time.now_ms() - 3_600_000)

    for _ in range(4 * LEASE_MS // 250):
        clock.advance(250)
        leader.step()
        other.step()
    leader.resign()
    other.step()

    assert other.leads()
    assert other.election.clock_hold() is None
    assert not other.dispatch_held


@pytest.mark.parametrize(("after_leases", "judges"), [(1.5, True), (2.5, False)])
def test_a_step_that_no_leader_has_had_the_time_to_judge_is_judged_by_the_next_one(
    make_elector: Callable[..., Elector], clock: ManualClock, after_leases: float, judges: bool
) -> None:
    leader, other = make_elector("first"), make_elector("second")
    leader.step()
    other.step()
    other.redis_time.observe(other.redis_time.now_ms() - 3_600_000)
    clock.step_wall(-3_600_000)
    for _ in range(int(after_leases * LEASE_MS / 250)):
        clock.advance(250)
        leader.step()
        other.step()
    leader.resign()

    other.step()

    assert other.leads()
    assert other.dispatch_held is judges


def test_a_step_is_told_when_it_holds_dispatch(make_elector: Callable[..., Elector], clock: ManualClock) -> None:
    heard: list[tuple[int, int]] = []
    elector = make_elector("leader")

    def hear(sender: Any, step_ms: int, epoch: int, **_: Any) -> None:
        heard.append((step_ms, epoch))

    clock_stepped.connect(hear, sender=elector)
    TestAStepOfRedisTime().lead_through_a_step(elector, clock, shared=False)
    for _ in range(5):
        clock.advance(1000)
        elector.step()

    ((step_ms, epoch),) = heard
    assert step_ms == pytest.approx(3_600_000, abs=60_000)
    assert elector.term is not None
    assert epoch == elector.term.epoch


def test_who_begins_and_ends_to_lead_is_told(make_elector: Callable[..., Elector]) -> None:
    heard: list[tuple[str, int, str]] = []
    elector = make_elector("leader")

    def hear_taken(sender: Any, epoch: int, owner: str, **_: Any) -> None:
        heard.append(("taken", epoch, owner))

    def hear_lost(sender: Any, epoch: int, owner: str, reason: str, **_: Any) -> None:
        heard.append((reason, epoch, owner))

    leadership_taken.connect(hear_taken, sender=elector)
    leadership_lost.connect(hear_lost, sender=elector)
    assert not elector.dispatch_held, "nothing holds it before there is a lead"
    elector.step()
    assert elector.term is not None
    epoch = elector.term.epoch
    elector.resign()
    elector.resign()

    assert heard == [("taken", epoch, "leader"), ("resigned", epoch, "leader")]


def test_a_line_is_written_again_when_a_third_of_a_lease_is_nearly_over(make_elector: Callable[..., Elector], clock: ManualClock) -> None:
    elector = make_elector("other")
    elector.step()
    soonest_ms = LEASE_MS // 3 - 125  # half of what a stand-by waits between two looks

    clock.advance(soonest_ms - 1)
    elector.step()
    assert elector.election.members()["other"]["counter"] == 1
    clock.advance(1)
    elector.step()
    assert elector.election.members()["other"]["counter"] == 2


def test_a_line_tells_how_far_the_host_is_from_redis(
    make_elector: Callable[..., Elector], clock: ManualClock, redis_client: redis.Redis
) -> None:
    elector = make_elector("other")
    elector.step()

    skew_ms = elector.election.members()["other"]["skew_ms"]

    assert skew_ms == pytest.approx(clock.wall_ms() - Timetable(redis_client, KEYS).now_ms(), abs=60_000)


def test_a_leader_that_learns_from_the_list_that_its_term_is_over_asks_again_at_once(
    make_elector: Callable[..., Elector], monkeypatch: pytest.MonkeyPatch
) -> None:
    elector = make_elector("leader")

    def members() -> Any:
        raise StaleEpoch("another epoch")

    monkeypatch.setattr(elector.election, "members", members)

    assert elector.step() == 0
    assert not elector.leads()
