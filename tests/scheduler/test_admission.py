"""A fair queue under the engine's own steps: how much is admitted, of what, and what is told of what waits too long."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import pytest
import redis

from celery_tw.clock import RedisTime, SystemClock
from celery_tw.core.lane import LANES
from celery_tw.events import fair_queue_unconsumed, task_starving
from celery_tw.scheduler.measuring import FULLNESS, Measuring
from celery_tw.scheduler.starving import Starving
from celery_tw.stores.redis.codec import OneTime
from celery_tw.stores.redis.consumers import Consumers
from celery_tw.stores.redis.lanes import Entering, Lanes
from celery_tw.stores.redis.writing import OneTimeWrite
from tests.scheduler.conftest import KEYS, Stand
from tests.waiting import wait_until

QUEUE = "queue"
CAPACITY = 8
HOUR_MS = 3_600_000


class ListLengths:
    """Queues that are lists of the server, and no others."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client

    def measure(self, queues: Sequence[str]) -> dict[str, int]:
        return {queue: int(self.client.llen(queue)) for queue in queues if self.client.type(queue) in (b"list", b"none")}

    def close(self) -> None:
        return None


class Fair:
    """A scheduler that leads, the lanes of one fair queue, and who measures it."""

    def __init__(self, stand: Stand) -> None:
        self.stand = stand.lead()
        self.lanes = Lanes(stand.client, KEYS, lease_ms=60_000, clock=SystemClock())
        self.consumers = Consumers(stand.client, KEYS)
        self.measuring = Measuring(
            admitting=stand.engine.admission.admitting,
            consumers=self.consumers,
            lengths=ListLengths(stand.client),
            rooms=stand.engine.admission.rooms,
            elector=stand.elector,
            clock=stand.clock,
            fair=[QUEUE],
            default_capacity=CAPACITY,
        )
        self.ids = iter(range(1001, 100_001, 2))

    def record(self, entry_id: int, lane: str, *, fingerprint: str = "f", name: str = "") -> OneTime:
        return OneTime(
            mid=f"m{entry_id}",
            name=name,
            stored_ms=0,
            last_ms=None,
            fingerprint=fingerprint,
            queue_key=QUEUE,
            extra={"task": "shop.tick", "lane": lane, "queue": QUEUE},
            message=f"{lane} {entry_id} m{entry_id}".encode(),
            task_id=f"t{entry_id}",
        )

    def enter(self, lane: str, count: int = 1, *, age_ms: int = 0, fingerprint: str = "f") -> None:
        """Let messages wait in *lane*, as if they had come *age_ms* ago."""
        for _ in range(count):
            entry_id = next(self.ids)
            rest = self.record(entry_id, lane, fingerprint=fingerprint).pack_rest()
            message = Entering(entry_id=entry_id, mid=f"m{entry_id}", task_id=f"t{entry_id}", queue=QUEUE, lane=lane, rest=rest)
            assert self.lanes.enter(message)[1] == "waiting"
            self.stand.client.zincrby(KEYS.lane(QUEUE, lane), -age_ms, str(entry_id))

    def admit(self) -> list[str]:
        """Measure, and let the engine admit what there is room for; return the lanes of what is in the queue, oldest first."""
        self.measuring.step()
        self.stand.run()
        return [name for name, _ in self.stand.sent()]

    def take(self, count: int) -> None:
        """Take messages off the queue, as workers do."""
        self.stand.client.rpop(QUEUE, count)

    def waiting(self) -> int:
        return sum(crowd.waiting for crowd in self.lanes.crowds(QUEUE))


@pytest.fixture
def fair(stand: Stand) -> Fair:
    return Fair(stand)


@pytest.fixture
def heard() -> Iterator[list[dict]]:
    """What was told of starving messages and of queues that nobody consumes."""
    told: list[dict] = []

    def hear(signal: object = None, sender: object = None, **facts: object) -> None:
        told.append(facts)

    task_starving.connect(hear)
    fair_queue_unconsumed.connect(hear)
    yield told
    task_starving.disconnect(hear)
    fair_queue_unconsumed.disconnect(hear)


def test_a_queue_is_filled_to_twice_what_its_consumers_run_and_no_further(fair: Fair) -> None:
    fair.enter("low", 50)

    assert len(fair.admit()) == FULLNESS * CAPACITY
    assert len(fair.admit()) == FULLNESS * CAPACITY

    fair.take(5)
    assert len(fair.admit()) == FULLNESS * CAPACITY
    assert fair.waiting() == 50 - FULLNESS * CAPACITY - 5


def test_workers_say_how_much_they_run(fair: Fair) -> None:
    fair.consumers.announce("a", queues=[QUEUE], concurrency=2, counter=1)
    fair.consumers.announce("b", queues=[QUEUE, "other"], concurrency=1, counter=1)
    fair.consumers.announce("c", queues=["other"], concurrency=50, counter=1)
    fair.enter("low", 50)

    assert len(fair.admit()) == FULLNESS * 3


def test_nothing_is_admitted_to_a_queue_that_is_full_of_what_others_sent(fair: Fair) -> None:
    fair.stand.client.lpush(QUEUE, *[b"other 0 x"] * 100)
    fair.enter("high", 5)

    assert "high" not in fair.admit()


def test_lanes_have_their_shares(fair: Fair) -> None:
    for lane in LANES:
        fair.enter(lane, 100)

    started: list[str] = []
    while len(started) < 100:
        fair.admit()
        started += [name for name, _ in fair.stand.sent()][:7]
        fair.take(7)

    counts = Counter(started[:100])
    assert [counts[lane] for lane in LANES] == pytest.approx([50, 30, 20], abs=2)


def test_a_deferred_task_for_a_fair_queue_is_fired_through_its_lane(fair: Fair) -> None:
    now_ms = fair.stand.now_ms()
    write = OneTimeWrite(name="later", entry_id=3, mid="m3", due_ms=now_ms - 10, record=fair.record(3, "medium", name="later").pack())
    fair.stand.timetable.writing.put_one_time([write])
    fair.measuring.step()

    fair.stand.run()

    assert fair.stand.sent() == [("medium", 3)]
    assert fair.lanes.admitted(QUEUE, minutes=5, now_ms=now_ms) == {"high": 0, "medium": 1, "low": 0}


def test_a_message_for_another_broker_is_rendered_again_and_admitted(fair: Fair) -> None:
    fair.enter("high", fingerprint="old")

    fair.admit()
    fair.stand.run()

    assert [name for name, _ in fair.stand.sent()] == ["high"]
    assert fair.waiting() == 0


def test_a_new_leader_goes_on_where_the_last_one_was(fair: Fair, make_stand: Callable[..., Stand]) -> None:
    fair.enter("low", 30)
    fair.admit()
    fair.stand.elector.resign()
    other = Fair(make_stand("other"))

    assert len(other.admit()) == FULLNESS * CAPACITY
    fair.take(100)
    other.admit()

    assert len(other.stand.sent()) == 30 - FULLNESS * CAPACITY
    assert other.waiting() == 0


def starving_of(fair: Fair) -> Starving:
    redis_time = RedisTime(SystemClock())
    redis_time.observe(fair.stand.now_ms())
    return Starving(
        admitting=fair.stand.engine.admission.admitting,
        elector=fair.stand.elector,
        redis_time=redis_time,
        gauges=fair.stand.engine.gauges,
        limit_ms=4 * HOUR_MS,
    )


def test_each_starving_message_is_told_of_once_whoever_leads(fair: Fair, make_stand: Callable[..., Stand], heard: list[dict]) -> None:
    fair.enter("low", 3, age_ms=5 * HOUR_MS)
    fair.enter("low", 2, age_ms=3 * HOUR_MS)
    fair.enter("medium", 1, age_ms=6 * HOUR_MS)

    starving_of(fair).step()
    starving_of(fair).step()
    fair.stand.elector.resign()
    starving_of(Fair(make_stand("other"))).step()

    assert [(each["task_id"], each["lane"]) for each in heard] == [
        ("t1011", "medium"),
        ("t1001", "low"),
        ("t1003", "low"),
        ("t1005", "low"),
    ]
    assert {each["task"] for each in heard} == {"shop.tick"}
    assert all(each["waited_ms"] >= 5 * HOUR_MS for each in heard)


def test_more_starving_messages_than_fit_a_page_are_each_told_of(
    fair: Fair, heard: list[dict], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("celery_tw.scheduler.starving.PAGE", 4)
    fair.enter("low", 30, age_ms=5 * HOUR_MS)
    starving = starving_of(fair)

    while starving.step() == 0:
        pass

    assert len({each["task_id"] for each in heard}) == len(heard) == 30
    assert sum("has waited" in line for line in caplog.messages) == 20


def test_a_fair_queue_that_nobody_consumes_is_told_of_once_until_somebody_does(fair: Fair, heard: list[dict]) -> None:
    fair.enter("low", 30)

    fair.admit()
    fair.admit()

    assert heard == [{"queue": QUEUE, "waiting": 30}]


def test_room_that_producers_have_used_is_not_given_out_again(fair: Fair) -> None:
    fair.measuring.step()
    fair.stand.run()
    for _ in range(FULLNESS * CAPACITY):
        entry_id = next(fair.ids)
        rest = fair.record(entry_id, "low").pack_rest()
        message = Entering(entry_id=entry_id, mid=f"m{entry_id}", task_id=f"t{entry_id}", queue=QUEUE, lane="low", rest=rest)
        assert fair.lanes.enter(message)[1] == "straight"
        fair.stand.client.lpush(QUEUE, b"low 0 x")
    fair.enter("high", 10)

    fair.stand.run()
    assert fair.waiting() == 10

    fair.take(3)
    assert len(fair.admit()) == FULLNESS * CAPACITY
    assert fair.waiting() == 7


def test_a_queue_that_cannot_be_measured_is_given_nothing_and_stops_no_other(fair: Fair, caplog: pytest.LogCaptureFixture) -> None:
    fair.enter("low", 5)
    fair.stand.client.sadd(KEYS.lanes, "bad")
    fair.stand.client.set("bad", "no list")

    fair.admit()

    assert len(fair.admit()) == 5
    assert sum(line.startswith("bad is given nothing") for line in caplog.messages) == 1


def test_what_stands_in_the_place_of_a_lane_does_not_stop_the_others_of_its_queue(fair: Fair) -> None:
    fair.enter("high", 3)
    fair.stand.client.set(KEYS.lane(QUEUE, "low"), "no lane")

    assert fair.admit() == ["high"] * 3


def test_a_scheduler_that_was_replaced_unawares_measures_and_tells_nothing_and_goes_on(fair: Fair, heard: list[dict]) -> None:
    fair.enter("low", age_ms=5 * HOUR_MS)
    starving = starving_of(fair)
    fair.stand.client.hset(KEYS.leader, "epoch", 2**50)

    assert fair.measuring.step() > 0
    assert starving.step() > 0

    assert heard == []
    assert not fair.stand.client.exists(KEYS.room(QUEUE))


def test_what_a_server_refuses_for_a_while_stays_in_its_lane_and_goes_on_later(fair: Fair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celery_tw.scheduler.admission.REFUSED_WAIT_MS", 50)
    fair.stand.run()
    fair.enter("low", 3)
    fair.measuring.step()

    fair.stand.client.config_set("min-replicas-to-write", 1)
    try:
        fair.stand.run()
    finally:
        fair.stand.client.config_set("min-replicas-to-write", 0)

    assert fair.waiting() == 3
    assert fair.stand.timetable.quarantined() == {}
    wait_until(lambda: fair.admit() == ["low"] * 3)
