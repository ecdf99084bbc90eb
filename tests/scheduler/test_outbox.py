"""The outbox: what is claimed for a broker apart reaches it, whatever happens on the way."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
import redis

from celery_tw.embedded import EmbeddedServer
from celery_tw.errors import BrokerUnavailable, StaleEpoch, StoreUnavailable
from celery_tw.scheduler.assembly import KEPT_FOR_LANES
from celery_tw.scheduler.parcels import BATCH, OUTSTANDING
from celery_tw.scheduler.ports import Outcome, Verdict
from celery_tw.scheduler.settling import REFUSALS
from celery_tw.settings import Settings
from celery_tw.stores.redis.claims import Settlement, Sizes
from celery_tw.stores.redis.envelope import NEUTRAL, Envelope
from celery_tw.stores.redis.keys import ONE_TIME_SKIPS
from celery_tw.stores.redis.scripts import script
from tests.cutting import CuttingProxy
from tests.scheduler.conftest import KEYS, Stand

HOUR_MS = 3_600_000


@dataclass
class Shelf:
    """A broker of this process: it keeps what it takes, and does to each entry's messages what the test says."""

    away: bool = False
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    takes_unknown: bool = True
    taken: list[Envelope] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    on_publish: Callable[[], object] = lambda: None

    def open(self) -> None:
        if self.away:
            raise BrokerUnavailable("the broker is away")

    def publish(self, envelopes: Sequence[Envelope], *, meanwhile: Callable[[], None]) -> list[Outcome]:
        self.batches.append(len(envelopes))
        outcomes = [Outcome(self.verdicts.get(name_of(envelope), "confirmed"), "because") for envelope in envelopes]
        for envelope, outcome in zip(envelopes, outcomes, strict=True):
            if outcome.verdict == "confirmed" or (outcome.verdict == "unknown" and self.takes_unknown):
                self.taken.append(envelope)
        self.on_publish()
        meanwhile()
        return outcomes

    def close(self) -> None:
        return None

    def slots(self) -> list[tuple[str, int]]:
        return [(name_of(envelope), envelope.headers["tw_slot"]) for envelope in self.taken]


def name_of(envelope: Envelope) -> str:
    return str(envelope.headers["periodic_task_name"])


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def stand(redis_client: redis.Redis, shelf: Shelf) -> Stand:
    return Stand(redis_client, publisher=shelf).lead()


@pytest.fixture
def successor(stand: Stand, redis_client: redis.Redis, shelf: Shelf) -> Callable[[], Stand]:
    """Let another process lead, as after the death of the one before."""

    def take_over() -> Stand:
        redis_client.delete(KEYS.leader)
        return Stand(redis_client, Settings(namespace="shop"), "other", shelf).lead()

    return take_over


def due(stand: Stand, *names: str, ago_ms: int = 100, **changes: object) -> int:
    """Store hourly entries that came due a moment ago; return their slot."""
    slot_ms = stand.now_ms() - ago_ms
    for name in names:
        stand.put(name, period_ms=HOUR_MS, mark_ms=slot_ms - HOUR_MS, **changes)
    return slot_ms


def publish(stand: Stand, times: int = 20) -> None:
    """Let the outbox work until it wants to wait, or *times*."""
    assert stand.outbox is not None
    for _ in range(times):
        if stand.outbox.step() > 0:
            return


def go(stand: Stand) -> None:
    stand.run()
    publish(stand)


def hurry(stand: Stand) -> None:
    """Let no refused message wait any longer."""
    assert stand.outbox is not None
    for parcel in stand.outbox.parcels.held():
        parcel.wake_ms = 0


def skips(stand: Stand, entry_id: int) -> list[tuple[int, str]]:
    _, raw = stand.timetable.history(entry_id, 10)
    return [(skip["from_ms"], skip["reason"]) for skip in map(json.loads, raw)]


# The way there


def test_a_slot_is_claimed_then_published_then_struck_out(stand: Stand, shelf: Shelf) -> None:
    slot_ms = due(stand, "tick")
    stand.run()
    assert (stand.claims.sizes(), shelf.taken) == (Sizes(1, 0, 0), [])
    publish(stand)
    assert (stand.claims.sizes(), shelf.slots()) == (Sizes(0, 0, 0), [("tick", slot_ms)])


def test_a_one_time_task_leaves_the_timetable_for_the_outbox_in_one_step(stand: Stand, shelf: Shelf) -> None:
    due_ms = stand.now_ms() - 100
    stand.put_once("pay", due_ms, fingerprint=NEUTRAL)
    stand.run()
    assert (stand.claims.sizes().waiting, stand.timetable.count()) == (1, (0, 0))
    publish(stand)
    assert shelf.slots() == [("pay", due_ms)]
    assert stand.claims.sizes().waiting == 0


def test_messages_go_out_in_the_order_of_their_claims(stand: Stand, shelf: Shelf) -> None:
    start_ms = stand.now_ms() - 5000
    for number in range(700):
        stand.put_once(f"task-{number}", start_ms + number, fingerprint=NEUTRAL)
    stand.run(200)
    publish(stand)
    assert shelf.slots() == [(f"task-{number}", start_ms + number) for number in range(700)]


def test_what_is_claimed_while_the_broker_is_at_work_is_taken_up_then(stand: Stand, shelf: Shelf) -> None:
    due(stand, "first")
    stand.run()
    due(stand, "second")
    shelf.on_publish = stand.run
    publish(stand, times=1)
    assert stand.outbox is not None
    assert ([name for name, _ in shelf.slots()], [parcel.name for parcel in stand.outbox.parcels.held()]) == (["first"], ["second"])


def test_all_messages_of_a_canvas_go_out_one_after_the_other(stand: Stand, shelf: Shelf) -> None:
    due(stand, "canvas", signature={"task": "shop.tick", "messages": 3})
    go(stand)
    first = shelf.taken[0].task_id
    assert [envelope.task_id for envelope in shelf.taken] == [first, f"{first}1", f"{first}2"]
    assert shelf.batches == [1, 1, 1]


def test_a_backlog_goes_through_the_outbox_in_order(stand: Stand, shelf: Shelf) -> None:
    now_ms = stand.now_ms()
    entry_id = stand.put("tick", period_ms=1000, mark_ms=now_ms, due_ms=now_ms + HOUR_MS)
    first_ms = now_ms - 5000
    stand.timetable.writing.open_backlog(entry_id, number=1, from_ms=first_ms, to_ms=now_ms, first_ms=first_ms, left=6, rate=1000.0)
    stand.listen()
    for _ in range(3):
        stand.engine._poll_boot_ms = 0
        go(stand)
    assert shelf.slots() == [("tick", first_ms + 1000 * number) for number in range(6)]


def test_no_more_than_a_thousand_are_outstanding_and_the_rest_stays_in_the_timetable(stand: Stand, shelf: Shelf) -> None:
    shelf.away = True
    now_ms = stand.now_ms()
    for number in range(OUTSTANDING + 200):
        stand.put_once(f"task-{number}", now_ms - 10, fingerprint=NEUTRAL)
    stand.run(300)
    publish(stand)
    assert stand.claims.sizes().waiting == OUTSTANDING
    assert stand.timetable.count()[1] == 200
    assert 0 < stand.engine.step() <= 100
    shelf.away = False
    for _ in range(10):
        publish(stand)
        stand.run()
    publish(stand)
    assert len(shelf.taken) == OUTSTANDING + 200
    assert (stand.claims.sizes().waiting, stand.timetable.count()[1]) == (0, 0)


# The broker says no


def test_a_refused_message_is_tried_again_and_holds_up_only_its_own_entry(stand: Stand, shelf: Shelf) -> None:
    shelf.verdicts["bad"] = "refused"
    slot_ms = due(stand, "bad", "good")
    go(stand)
    assert (shelf.slots(), stand.claims.sizes()) == ([("good", slot_ms)], Sizes(1, 1, 0))
    shelf.verdicts.clear()
    hurry(stand)
    publish(stand)
    assert (shelf.slots(), stand.claims.sizes()) == ([("good", slot_ms), ("bad", slot_ms)], Sizes(0, 0, 0))


def test_messages_of_one_entry_wait_behind_one_that_is_refused(stand: Stand, shelf: Shelf) -> None:
    shelf.verdicts["canvas"] = "unroutable"
    due(stand, "canvas", signature={"task": "shop.tick", "messages": 2})
    go(stand)
    assert shelf.batches == [1]
    shelf.verdicts.clear()
    hurry(stand)
    publish(stand)
    assert [envelope.task_id[36:] for envelope in shelf.taken] == ["", "1"]


def test_a_message_refused_too_often_is_buried_with_the_reason(stand: Stand, shelf: Shelf, redis_client: redis.Redis) -> None:
    shelf.verdicts["bad"] = "refused"
    slot_ms = due(stand, "bad")
    stand.run()
    for _ in range(REFUSALS):
        publish(stand)
        hurry(stand)
    assert stand.claims.sizes() == Sizes(0, 0, 1)
    ((member, reason),) = stand.timetable.quarantined().items()
    assert member.startswith("message ")
    assert {"reason": "because", "name": "bad", "slot_ms": slot_ms, "refusals": REFUSALS}.items() <= json.loads(reason).items()
    (message,) = redis_client.hvals(KEYS.buried)
    assert json.loads(message)["headers"]["periodic_task_name"] == "bad"


def test_refusals_are_counted_on_by_the_next_leader(stand: Stand, shelf: Shelf, successor: Callable[[], Stand]) -> None:
    shelf.verdicts["bad"] = "refused"
    due(stand, "bad")
    stand.run()
    for _ in range(REFUSALS - 1):
        publish(stand)
        hurry(stand)
    publish(successor())
    assert stand.claims.sizes() == Sizes(0, 0, 1)


def test_what_the_broker_takes_after_it_was_refused_is_told_of(stand: Stand, shelf: Shelf) -> None:
    told: list[str] = []
    assert stand.outbox is not None
    stand.outbox.settling.on_delivered = lambda parcel: told.append(parcel.name)
    shelf.verdicts["bad"] = "refused"
    due(stand, "bad", "good")
    go(stand)
    shelf.verdicts.clear()
    hurry(stand)
    publish(stand)
    assert (len(shelf.taken), told) == (2, ["bad"])


def test_messages_that_are_refused_take_no_room_from_others(stand: Stand, shelf: Shelf) -> None:
    now_ms = stand.now_ms()
    for number in range(OUTSTANDING):
        shelf.verdicts[f"bad-{number}"] = "refused"
        stand.put_once(f"bad-{number}", now_ms - 10, fingerprint=NEUTRAL)
    stand.run(200)
    publish(stand)
    slot_ms = due(stand, "good")
    go(stand)
    assert shelf.slots() == [("good", slot_ms)]


def test_what_is_no_message_is_buried(stand: Stand, redis_client: redis.Redis) -> None:
    redis_client.xadd(KEYS.outbox, {"entry": "2", "delivery": "at_least_once", "message": "nonsense"})
    publish(stand)
    assert stand.claims.sizes() == Sizes(0, 0, 1)


# Nobody answers


def test_what_is_not_confirmed_is_published_again_with_the_same_ids(stand: Stand, shelf: Shelf) -> None:
    shelf.verdicts["tick"] = "unknown"
    due(stand, "tick")
    go(stand)
    shelf.verdicts.clear()
    publish(stand)
    first, second = shelf.taken
    assert (first.task_id, first.mid) == (second.task_id, second.mid)
    assert stand.claims.sizes().waiting == 0


def test_a_new_leader_publishes_what_the_old_one_left(stand: Stand, shelf: Shelf, successor: Callable[[], Stand]) -> None:
    slot_ms = due(stand, "first", "second")
    stand.run()
    publish(successor())
    assert shelf.slots() == [("first", slot_ms), ("second", slot_ms)]


def test_a_replaced_leader_strikes_nothing_out(stand: Stand, shelf: Shelf, successor: Callable[[], Stand]) -> None:
    due(stand, "tick")
    stand.run()
    shelf.on_publish = successor
    publish(stand)
    assert stand.claims.sizes().waiting == 1
    with pytest.raises(StaleEpoch):
        stand.claims.settle(stand.elector.term.epoch if stand.elector.term else 0, [Settlement(claim_id="1-1", verb="done")])


def test_what_the_broker_confirmed_while_redis_was_away_is_not_sent_again(stand: Stand, shelf: Shelf, redis_client: redis.Redis) -> None:
    due(stand, "tick")
    stand.run()
    assert stand.outbox is not None
    shelf.on_publish = lambda: redis_client.execute_command("CLIENT", "PAUSE", 2500, "ALL")
    stand.claims.client = redis.Redis.from_pool(short_of_patience(redis_client))
    with pytest.raises(StoreUnavailable):
        stand.outbox.step()
    redis_client.execute_command("CLIENT", "UNPAUSE")
    shelf.on_publish = lambda: None
    publish(stand)
    assert (len(shelf.taken), stand.claims.sizes().waiting) == (1, 0)


def test_when_the_answer_to_what_was_recorded_is_lost_no_message_goes_out_again(
    stand: Stand, shelf: Shelf, redis_server: EmbeddedServer
) -> None:
    start_ms = stand.now_ms() - 5000
    for number in range(700):
        stand.put_once(f"task-{number}", start_ms + number, fingerprint=NEUTRAL)
    stand.run(200)
    assert stand.outbox is not None
    direct = stand.claims.client
    with CuttingProxy(str(redis_server.socket_path)) as proxy:
        stand.claims.client = proxy.client()
        proxy.cut_answers_to(script("settle").digest.encode(), number=1)
        with pytest.raises(StoreUnavailable):
            stand.outbox.step()
        assert len(shelf.taken) == BATCH
        publish(stand)
        assert proxy.cuts == 1
        stand.claims.client.close()

    stand.claims.client = direct
    assert sorted(str(envelope.task_id) for envelope in shelf.taken) == sorted(f"mid-task-{number}" for number in range(700))
    assert stand.claims.sizes().waiting == 0


def short_of_patience(client: redis.Redis) -> redis.ConnectionPool:
    where = client.connection_pool.connection_kwargs
    return redis.ConnectionPool(connection_class=client.connection_pool.connection_class, **{**where, "socket_timeout": 0.2, "retry": None})


# At most once


def test_an_at_most_once_message_that_arrives_leaves_no_mark(stand: Stand, shelf: Shelf) -> None:
    slot_ms = due(stand, "tick", delivery="at_most_once")
    go(stand)
    assert (shelf.slots(), stand.claims.sizes().waiting, stand.claims.unsure()) == ([("tick", slot_ms)], 0, {})


@pytest.mark.parametrize(("verdict", "reason"), [("unknown", "delivery: unknown"), ("refused", "delivery: refused")])
def test_an_at_most_once_message_without_a_confirmation_is_never_sent_again(
    stand: Stand, shelf: Shelf, verdict: Verdict, reason: str
) -> None:
    buried: list[tuple[int, str]] = []
    assert stand.outbox is not None
    stand.outbox.settling.on_buried = lambda parcel, why: buried.append((parcel.refusals, why))
    shelf.verdicts["tick"] = verdict
    slot_ms = stand.now_ms() - 100
    entry_id = stand.put("tick", period_ms=HOUR_MS, mark_ms=slot_ms - HOUR_MS, delivery="at_most_once")
    go(stand)
    publish(stand)
    assert shelf.batches == [1]
    assert skips(stand, entry_id) == [(slot_ms, reason)]
    assert buried == ([(1, "because")] if verdict == "refused" else [])
    assert (stand.claims.sizes().waiting, stand.claims.unsure()) == (0, {})


def test_a_mark_of_an_older_term_becomes_a_skip(stand: Stand, shelf: Shelf, successor: Callable[[], Stand]) -> None:
    slot_ms = stand.now_ms() - 100
    entry_id = stand.put("tick", period_ms=HOUR_MS, mark_ms=slot_ms - HOUR_MS, delivery="at_most_once")
    stand.run()
    after = []
    shelf.on_publish = lambda: after.append(successor())
    publish(stand)
    assert stand.claims.unsure() != {}
    shelf.on_publish = lambda: None
    publish(after[0])
    assert len(shelf.taken) == 1
    assert skips(stand, entry_id) == [(slot_ms, "delivery: unknown")]
    assert stand.claims.unsure() == {}


def test_a_one_time_task_may_be_at_most_once_too(stand: Stand, shelf: Shelf) -> None:
    shelf.verdicts["pay"] = "unknown"
    due_ms = stand.now_ms() - 100
    stand.put_once("pay", due_ms, fingerprint=NEUTRAL, delivery="at_most_once")
    go(stand)
    publish(stand)
    assert shelf.batches == [1]
    assert skips(stand, ONE_TIME_SKIPS) == [(due_ms, "delivery: unknown")]


def test_a_broker_that_is_away_takes_no_chance_from_an_at_most_once_message(stand: Stand, shelf: Shelf) -> None:
    shelf.away = True
    slot_ms = due(stand, "tick", delivery="at_most_once")
    go(stand)
    assert (stand.claims.sizes().waiting, stand.claims.unsure()) == (1, {})
    shelf.away = False
    publish(stand)
    assert shelf.slots() == [("tick", slot_ms)]


# Cancelled


def test_what_is_cancelled_after_it_was_claimed_is_not_published(stand: Stand, shelf: Shelf, redis_client: redis.Redis) -> None:
    shelf.away = True
    told: list[Sequence[Envelope]] = []
    assert stand.outbox is not None
    stand.outbox.on_cancelled = told.append
    due_ms = stand.now_ms() - 100
    stand.put_once("pay", due_ms, fingerprint=NEUTRAL)
    slot_ms = due(stand, "other")
    go(stand)
    redis_client.zadd(KEYS.cancelled, {"mid-pay": stand.now_ms() + 1})
    shelf.away = False
    publish(stand)
    assert shelf.slots() == [("other", slot_ms)]
    assert [[envelope.task_id for envelope in envelopes] for envelopes in told] == [["mid-pay"]]
    assert skips(stand, ONE_TIME_SKIPS) == [(due_ms, "cancelled")]
    assert stand.claims.sizes().waiting == 0


def test_a_tombstone_from_before_the_claim_stops_nothing(stand: Stand, shelf: Shelf, redis_client: redis.Redis) -> None:
    redis_client.zadd(KEYS.cancelled, {"mid-pay": stand.now_ms()})
    stand.put_once("pay", stand.now_ms() - 100, fingerprint=NEUTRAL)
    go(stand)
    assert len(shelf.taken) == 1


# What fair queues take of it


def test_a_message_is_on_its_way_to_its_own_queue_and_until_it_is_read_to_any(stand: Stand, shelf: Shelf) -> None:
    assert stand.outbox is not None
    due(stand, "one", "two")
    stand.run()
    assert stand.outbox.parcels.on_their_way(("queue", "other")) == {"queue": 2, "other": 2}

    shelf.away = True
    publish(stand)
    assert stand.outbox.parcels.on_their_way(("queue", "other")) == {"queue": 2, "other": 0}

    shelf.away = False
    publish(stand)
    assert stand.outbox.parcels.on_their_way(("queue",)) == {"queue": 0}


def test_what_is_due_leaves_room_to_what_waits_in_lanes(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celery_tw.scheduler.parcels.OUTSTANDING", KEPT_FOR_LANES + 2)
    assert stand.elector.term is not None
    rooms = stand.engine.admission.rooms
    rooms.begin(stand.elector.term.epoch)
    rooms.measured("elsewhere", target=0, length=0, given=0, waiting=1)
    due(stand, *(f"entry-{number}" for number in range(5)))

    stand.run()
    assert stand.claims.sizes().waiting == 2

    rooms.measured("elsewhere", target=0, length=0, given=0, waiting=0)
    stand.run()
    assert stand.claims.sizes().waiting == 5
