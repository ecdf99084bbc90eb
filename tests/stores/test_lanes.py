"""Lanes in Redis: who goes straight on, who waits, who is let on."""

import json
from dataclasses import replace

import pytest
import redis

from celery_tw.clock import SystemClock
from celery_tw.core.command import Command
from celery_tw.core.lane import LANES
from celery_tw.core.shares import HIGH, LOW, MEDIUM, Choice, Segment
from celery_tw.errors import StaleEpoch, StoreRefused
from celery_tw.stores.redis.admitting import Admitting
from celery_tw.stores.redis.cancelling import Cancelling
from celery_tw.stores.redis.codec import OneTime, unpack_one_time
from celery_tw.stores.redis.deferring import Deferred, Deferring
from celery_tw.stores.redis.dispatching import Dispatching, SlotWrite
from celery_tw.stores.redis.ejecting import Ejecting
from celery_tw.stores.redis.election import Election, Led
from celery_tw.stores.redis.keys import ADMITTED_KEPT_MS, Keys
from celery_tw.stores.redis.lanes import Entering, Lanes
from celery_tw.stores.redis.timetable import Timetable
from celery_tw.stores.redis.writing import OneTimeWrite
from tests.stores.test_timetable import recurring
from tests.stores.waiting_tasks import waiting_task

QUEUE = "orders"
LEASE_MS = 3000


@pytest.fixture
def lanes(redis_client: redis.Redis, keys: Keys) -> Lanes:
    return Lanes(redis_client, keys, lease_ms=LEASE_MS, clock=SystemClock())


@pytest.fixture
def admitting(redis_client: redis.Redis, keys: Keys, lanes: Lanes) -> Admitting:
    return Admitting(redis_client, keys, lanes, lease_ms=LEASE_MS)


def record(number: int = 1, *, lane: str = LOW, queue: str = QUEUE, name: str = "") -> OneTime:
    """Return a task for a fair queue."""
    return OneTime(
        mid=f"m{number}",
        name=name,
        stored_ms=0,
        last_ms=None,
        fingerprint="f",
        queue_key=queue,
        extra={"task": "shop.tick", "lane": lane, "queue": queue},
        message=b'{"headers": {"id": "t%d", "tw_seq": "\\u0000s"}}' % number,
        task_id="" if name else f"t{number}",
    )


def entering(number: int = 1, *, lane: str = LOW) -> Entering:
    rest = record(number, lane=lane).pack_rest()
    return Entering(entry_id=2 * number + 1, mid=f"m{number}", task_id=f"t{number}", queue=QUEUE, lane=lane, rest=rest)


def enter(lanes: Lanes, *numbers: int, lane: str = LOW) -> list[str]:
    return [lanes.enter(entering(number, lane=lane))[1] for number in numbers]


def choose(lanes: Lanes, *lanes_asked: str, turn: str = "") -> list[Choice]:
    """Return choices of all that waits in some lanes, all by default."""
    return [
        Choice(segment=Segment(lane, turn or lane), turn=turn or lane, since_ms=each.since_ms, entry_id=each.entry_id)
        for lane in lanes_asked or LANES
        for each in lanes.page(QUEUE, lane)
    ]


def admit(dispatching: Dispatching, epoch: int, choices: list[Choice], *, fingerprint: str = "f") -> list[str]:
    call = dispatching.admit(epoch, choices, queue=QUEUE, fingerprint=fingerprint, queue_keys=[QUEUE.encode()])
    return call.statuses()[1]


def waiting(lanes: Lanes) -> list[int]:
    return [crowd.waiting for crowd in lanes.crowds(QUEUE)]


def test_a_message_goes_straight_on_as_long_as_there_is_room(lanes: Lanes, admitting: Admitting, epoch: int) -> None:
    admitting.make_room(epoch, {QUEUE: (2, "fair")})

    assert enter(lanes, 1, 2, 3) == ["straight", "straight", "waiting"]
    assert waiting(lanes) == [0, 0, 1]


def test_nothing_goes_straight_past_what_waits(lanes: Lanes, admitting: Admitting, epoch: int) -> None:
    enter(lanes, 1)

    (stand,) = admitting.make_room(epoch, {QUEUE: (10, "fair")}).values()

    assert stand.waiting == (0, 0, 1)
    assert enter(lanes, 2, lane=HIGH) == ["waiting"]


def test_what_was_not_used_of_a_room_is_told(lanes: Lanes, admitting: Admitting, epoch: int) -> None:
    admitting.make_room(epoch, {QUEUE: (3, "fair")})
    enter(lanes, 1)

    assert admitting.make_room(epoch, {QUEUE: (3, "fair")})[QUEUE].left == 2


def test_a_stale_leader_makes_no_room(admitting: Admitting, epoch: int) -> None:
    with pytest.raises(StaleEpoch):
        admitting.make_room(epoch - 1, {QUEUE: (3, "fair")})
    with pytest.raises(StaleEpoch):
        admitting.report(epoch - 1, QUEUE, from_ms=None, to_ms=1)


def test_without_a_leader_for_a_lease_nothing_waits(lanes: Lanes, election: Election) -> None:
    assert enter(lanes, 1) == ["leaderless"]

    led = election.acquire("me", lease_ms=60_000)
    assert isinstance(led, Led)
    assert enter(lanes, 1) == ["waiting"]
    election.resign(led.epoch)

    assert enter(lanes, 2) == ["waiting"]


def test_a_queue_that_is_not_fair_any_more_is_forgotten_once_it_is_empty(
    lanes: Lanes, admitting: Admitting, epoch: int, keys: Keys
) -> None:
    enter(lanes, 1)
    admitting.make_room(epoch, {QUEUE: (5, "former")})
    assert lanes.queues() == [QUEUE]

    lanes.client.delete(keys.lane(QUEUE, LOW))
    admitting.make_room(epoch, {QUEUE: (5, "former")})

    assert lanes.queues() == []


def test_admitted_messages_are_in_the_queue_in_the_order_of_their_turns_and_nowhere_else(
    lanes: Lanes, dispatching: Dispatching, redis_client: redis.Redis, keys: Keys, epoch: int
) -> None:
    enter(lanes, 1, 2)
    enter(lanes, 3, lane=HIGH)
    choices = choose(lanes, LOW, HIGH)

    assert admit(dispatching, epoch, [choices[2], choices[0], choices[1]]) == ["fired"] * 3

    sent = redis_client.lrange(QUEUE, 0, -1)
    assert [message[message.index(b'"t') + 1 :][:2] for message in reversed(sent)] == [b"t3", b"t1", b"t2"]
    assert b'"tw_seq": "' not in b"".join(sent)
    assert waiting(lanes) == [0, 0, 0]
    assert redis_client.exists(*map(keys.entry, (3, 5, 7)), keys.by_task) == 0


def test_turns_are_counted_for_the_lanes_that_had_them(lanes: Lanes, dispatching: Dispatching, epoch: int) -> None:
    enter(lanes, 1, 2)
    enter(lanes, 3, lane=HIGH)

    admit(dispatching, epoch, choose(lanes, LOW, turn=MEDIUM) + choose(lanes, HIGH))

    assert lanes.admitted(QUEUE, minutes=5, now_ms=lanes.clock.wall_ms()) == {HIGH: 1, MEDIUM: 2, LOW: 0}


def test_a_message_is_admitted_once(lanes: Lanes, dispatching: Dispatching, redis_client: redis.Redis, epoch: int) -> None:
    enter(lanes, 1)
    choices = choose(lanes)

    assert admit(dispatching, epoch, choices) == ["fired"]
    assert admit(dispatching, epoch, choices) == ["gone"]
    assert enter(lanes, 1) == ["fired"]
    assert redis_client.llen(QUEUE) == 1


def test_a_stale_leader_admits_nothing(lanes: Lanes, dispatching: Dispatching, redis_client: redis.Redis, epoch: int) -> None:
    enter(lanes, 1)

    with pytest.raises(StaleEpoch):
        admit(dispatching, epoch - 1, choose(lanes))

    assert redis_client.llen(QUEUE) == 0
    assert waiting(lanes) == [0, 0, 1]


def test_what_cannot_be_admitted_is_made_due_where_it_is_seen_why(
    lanes: Lanes, dispatching: Dispatching, timetable: Timetable, redis_client: redis.Redis, epoch: int
) -> None:
    enter(lanes, 1)

    assert admit(dispatching, epoch, choose(lanes), fingerprint="another") == ["returned"]

    ((due_ms, entry_id),) = timetable.nearest(5)
    assert waiting(lanes) == [0, 0, 0]
    fire = dispatching.fire_once(epoch, [(due_ms, entry_id)], fingerprint="another", queue_keys=[QUEUE.encode()])
    assert fire.statuses()[1] == ["foreign"]
    assert redis_client.llen(QUEUE) == 0


def test_a_deferred_task_that_is_due_goes_to_its_lane_with_its_record(
    lanes: Lanes, dispatching: Dispatching, timetable: Timetable, redis_client: redis.Redis, keys: Keys, epoch: int
) -> None:
    deferring = Deferring(redis_client, keys, grace_ms=None, clock=SystemClock())
    deferring.defer(Deferred(entry_id=3, mid="m1", task_id="t1", due_ms=2000, rest=record(lane=MEDIUM).pack_rest()))
    options = {"fingerprint": "f", "queue_keys": [QUEUE.encode()]}

    assert dispatching.fire_once(epoch, [(2000, 3)], **options).statuses()[1] == [f"unlaned {QUEUE}"]  # type: ignore[arg-type]
    assert dispatching.fire_once(epoch, [(2000, 3)], fair_queues=[QUEUE], **options).statuses()[1] == [f"laned {QUEUE}"]  # type: ignore[arg-type]

    assert waiting(lanes) == [0, 1, 0]
    assert timetable.nearest(5) == []
    (found,) = lanes.under_task(QUEUE, "t1")
    assert found.since_ms > 2000
    assert admit(dispatching, epoch, choose(lanes)) == ["fired"]
    assert redis_client.llen(QUEUE) == 1


ENVELOPE = (
    b'{"body": "W10=", "content-encoding": "utf-8", "content-type": "application/json", "headers": {"id": "t1", "task": "shop.tick",'
    b' "tw_mid": "m1", "tw_seq": "\\u0000s"}, "properties": {"delivery_info": {"exchange": "", "routing_key": "orders"},'
    b' "body_encoding": "base64", "delivery_tag": "d"}}'
)
FIRE = Command("lpush", QUEUE.encode(), ENVELOPE, QUEUE, HIGH)


def test_a_fire_for_a_fair_queue_waits_in_its_lane_with_its_slot_decided(
    lanes: Lanes, dispatching: Dispatching, timetable: Timetable, redis_client: redis.Redis, keys: Keys, epoch: int
) -> None:
    timetable.writing.put([recurring(2)])
    dispatching.entering.fingerprint = lambda: "f"
    write = SlotWrite(entry_id=2, due_ms=2000, version=1, slot_ms=2000, next_due_ms=3000, commands=[FIRE])

    assert dispatching.fire(epoch, [write]).statuses()[1] == ["fired"]
    assert dispatching.fire(epoch, [write]).statuses()[1] == ["moved"]

    (found,) = lanes.under_task(QUEUE, "t1")
    task = unpack_one_time(found.record)
    assert (found.lane, task.mid, task.extra) == (HIGH, "m1", {"task": "shop.tick", "lane": HIGH, "queue": QUEUE})
    assert redis_client.llen(QUEUE) == 0
    assert admit(dispatching, epoch, choose(lanes)) == ["fired"]
    assert [json.loads(message)["headers"]["id"] for message in redis_client.lrange(QUEUE, 0, -1)] == ["t1"]


def test_missed_slots_for_a_fair_queue_wait_in_its_lane(lanes: Lanes, dispatching: Dispatching, timetable: Timetable, epoch: int) -> None:
    timetable.writing.put([recurring(2)])
    timetable.writing.open_backlog(2, number=7, from_ms=100, to_ms=300, first_ms=100, left=3, rate=None)
    backlog = dispatching.read_backlog("2:7")
    assert backlog is not None

    status = dispatching.drain(epoch, backlog, slots_ms=[100], commands=[FIRE], next_ms=200, left=2, again_ms=5)

    assert status == "fired"
    assert waiting(lanes) == [1, 0, 0]


def test_a_fire_whose_id_is_anothers_by_now_is_refused_and_gets_another(
    lanes: Lanes, dispatching: Dispatching, timetable: Timetable, redis_client: redis.Redis, keys: Keys, epoch: int
) -> None:
    timetable.writing.put([recurring(2)])
    first = dispatching.entering.ids.take() + 2
    redis_client.set(keys.entry(first), "another's")
    write = SlotWrite(entry_id=2, due_ms=2000, version=1, slot_ms=2000, next_due_ms=3000, commands=[FIRE])

    (status,) = dispatching.fire(epoch, [write]).statuses()[1]
    dispatching.entering.discard_ids(status)

    assert status.startswith("refused TAKEN")
    assert redis_client.get(keys.entry(first)) == b"another's"
    assert dispatching.fire(epoch, [write]).statuses()[1] == ["fired"]


def test_what_waits_in_a_lane_can_be_cancelled(lanes: Lanes, redis_client: redis.Redis, keys: Keys, epoch: int) -> None:
    enter(lanes, 1, 2)
    cancelling = Cancelling(redis_client, keys)

    taken = cancelling.cancel(["t1"])["t1"]

    assert [each.entry_id for each in taken] == [3]
    assert taken[0].due_ms is not None
    assert waiting(lanes) == [0, 0, 1]
    assert [ids for ids in cancelling.pages() if ids] == [[5]]


def test_what_waits_in_a_lane_can_be_ejected(lanes: Lanes, redis_client: redis.Redis, keys: Keys, epoch: int) -> None:
    enter(lanes, 1)
    ejecting = Ejecting(redis_client, keys)
    ((task,),) = ejecting.pages()
    push = Command("lpush", QUEUE.encode(), b"message")

    assert ejecting.count() == (1, 0)
    assert ejecting.eject(3, record(), due_ms=task.due_ms, push=push, key=task.key) == "ejected"

    assert waiting(lanes) == [0, 0, 0]
    assert redis_client.lrange(QUEUE, 0, -1) == [b"message"]


def test_a_removed_entry_leaves_its_lane(
    lanes: Lanes, dispatching: Dispatching, timetable: Timetable, redis_client: redis.Redis, epoch: int
) -> None:
    task = record(name="later")
    timetable.writing.put_one_time([OneTimeWrite(name="later", entry_id=3, mid="m1", due_ms=2000, record=task.pack())])
    dispatching.fire_once(epoch, [(2000, 3)], fingerprint="f", queue_keys=[QUEUE.encode()], fair_queues=[QUEUE]).statuses()
    assert waiting(lanes) == [0, 0, 1]
    assert timetable.read_one_time(3)[1] is not None

    assert timetable.writing.remove("later", 3) == "removed"

    assert waiting(lanes) == [0, 0, 0]


def test_an_entry_that_was_made_due_again_while_it_waits_is_not_admitted_before(
    lanes: Lanes, dispatching: Dispatching, timetable: Timetable, redis_client: redis.Redis, epoch: int
) -> None:
    later_ms = timetable.now_ms() + 3_600_000
    write = OneTimeWrite(name="later", entry_id=3, mid="m1", due_ms=2000, record=record(name="later").pack())
    timetable.writing.put_one_time([write])
    dispatching.fire_once(epoch, [(2000, 3)], fingerprint="f", queue_keys=[QUEUE.encode()], fair_queues=[QUEUE]).statuses()
    choices = choose(lanes)
    timetable.writing.put_one_time([replace(write, due_ms=later_ms)])

    assert admit(dispatching, epoch, choices) == ["gone"]

    assert waiting(lanes) == [0, 0, 0]
    assert timetable.nearest(5) == [(later_ms, 3)]
    assert redis_client.llen(QUEUE) == 0


def test_a_boosted_message_keeps_the_moment_when_it_came(lanes: Lanes, epoch: int) -> None:
    enter(lanes, 1, 2)
    before = {each.entry_id: each.since_ms for each in lanes.page(QUEUE, LOW)}

    assert lanes.boost(QUEUE, [3, 99], to=HIGH) == 1

    assert waiting(lanes) == [1, 0, 1]
    assert [(each.entry_id, each.since_ms) for each in lanes.page(QUEUE, HIGH)] == [(3, before[3])]


def test_templates_of_what_waits_in_lanes_are_kept(
    lanes: Lanes, dispatching: Dispatching, redis_client: redis.Redis, keys: Keys, epoch: int
) -> None:
    enter(lanes, 1)
    redis_client.zadd(keys.lane(QUEUE, LOW), {"3": 1000})
    for template_id in redis_client.hkeys(keys.templates):
        redis_client.zadd(keys.template_dues, {template_id: 1000})

    dispatching.sweep_templates(epoch, fair_queues=[QUEUE])
    assert redis_client.hlen(keys.templates) == 1

    dispatching.sweep_templates(epoch)
    assert redis_client.hlen(keys.templates) == 0


def test_each_range_of_starving_messages_is_reported_by_one_leader(admitting: Admitting, election: Election, epoch: int) -> None:
    assert admitting.report(epoch, QUEUE, from_ms=None, to_ms=2000)
    election.resign(epoch)
    led = election.acquire("other", lease_ms=60_000)
    assert isinstance(led, Led)

    assert not admitting.report(led.epoch, QUEUE, from_ms=None, to_ms=3000)
    assert admitting.reported_until(QUEUE) == 2000
    assert admitting.report(led.epoch, QUEUE, from_ms=2000, to_ms=3000)


def put_later(timetable: Timetable, number: int = 1, *, lane: str = LOW, due_ms: int = 2000) -> None:
    """Store the named task *later*, or put it off."""
    task = record(number, lane=lane, name="later")
    timetable.writing.put_one_time([OneTimeWrite(name="later", entry_id=3, mid=task.mid, due_ms=due_ms, record=task.pack())])


def fire_later(dispatching: Dispatching, epoch: int, *, due_ms: int = 2000) -> list[str]:
    call = dispatching.fire_once(epoch, [(due_ms, 3)], fingerprint="f", queue_keys=[QUEUE.encode()], fair_queues=[QUEUE])
    return call.statuses()[1]


def test_a_task_that_is_put_off_into_another_lane_waits_there_alone(
    lanes: Lanes, dispatching: Dispatching, timetable: Timetable, redis_client: redis.Redis, epoch: int
) -> None:
    put_later(timetable)
    fire_later(dispatching, epoch)
    put_later(timetable, 2, lane=HIGH)

    assert fire_later(dispatching, epoch) == [f"laned {QUEUE}"]

    assert waiting(lanes) == [1, 0, 0]
    assert admit(dispatching, epoch, choose(lanes)) == ["fired"]
    assert redis_client.llen(QUEUE) == 1


def test_a_task_that_stands_in_two_lanes_is_admitted_once(
    lanes: Lanes, dispatching: Dispatching, redis_client: redis.Redis, keys: Keys, epoch: int
) -> None:
    enter(lanes, 1)
    redis_client.zadd(keys.lane(QUEUE, HIGH), {"3": 1000})

    assert admit(dispatching, epoch, choose(lanes)) == ["fired", "gone"]

    assert redis_client.llen(QUEUE) == 1
    assert waiting(lanes) == [0, 0, 0]


def test_room_is_made_and_starving_messages_are_reported_when_memory_is_full(
    lanes: Lanes, admitting: Admitting, redis_client: redis.Redis, epoch: int
) -> None:
    enter(lanes, 1)
    redis_client.config_set("maxmemory", 1)
    try:
        assert admitting.make_room(epoch, {QUEUE: (5, "fair")})[QUEUE].waiting == (0, 0, 1)
        assert admitting.make_room(epoch, {"other": (5, "fair")})["other"].total == 0
        assert admitting.report(epoch, QUEUE, from_ms=None, to_ms=2000)
    finally:
        redis_client.config_set("maxmemory", 0)


def test_what_waits_in_a_lane_can_be_paused_and_goes_back_there(
    lanes: Lanes, dispatching: Dispatching, timetable: Timetable, redis_client: redis.Redis, keys: Keys, epoch: int
) -> None:
    put_later(timetable)
    fire_later(dispatching, epoch)
    choices = choose(lanes)

    assert timetable.writing.hold(3, pause=True) == "changed"
    assert admit(dispatching, epoch, choices) == ["gone"]
    assert (waiting(lanes), timetable.nearest(5), redis_client.llen(QUEUE)) == ([0, 0, 0], [], 0)

    assert timetable.writing.hold(3, pause=False) == "changed"
    ((due_ms, _),) = timetable.nearest(5)
    assert fire_later(dispatching, epoch, due_ms=due_ms) == [f"laned {QUEUE}"]
    assert waiting(lanes) == [0, 0, 1]


def test_a_task_that_is_put_off_while_it_waits_and_then_paused_is_not_admitted(
    lanes: Lanes, dispatching: Dispatching, timetable: Timetable, redis_client: redis.Redis, keys: Keys, epoch: int
) -> None:
    put_later(timetable)
    fire_later(dispatching, epoch)
    choices = choose(lanes)
    later_ms = timetable.now_ms() + 3_600_000
    put_later(timetable, 2, due_ms=later_ms)

    assert timetable.writing.hold(3, pause=True) == "changed"

    assert admit(dispatching, epoch, choices) == ["gone"]
    assert redis_client.hgetall(keys.held) == {b"3": str(later_ms).encode()}
    assert (waiting(lanes), redis_client.llen(QUEUE)) == ([0, 0, 0], 0)


def test_old_minutes_of_what_was_admitted_are_forgotten_by_what_goes_straight_on(
    lanes: Lanes, admitting: Admitting, redis_client: redis.Redis, keys: Keys, epoch: int
) -> None:
    admitting.make_room(epoch, {QUEUE: (2, "fair")})
    minute = lanes.clock.wall_ms() // 60_000
    recent = minute - ADMITTED_KEPT_MS // 60_000 + 5
    redis_client.hset(keys.admitted(QUEUE), mapping={f"{minute - 500} high": 1, f"{recent} low": 1})

    enter(lanes, 1)

    fields = redis_client.hkeys(keys.admitted(QUEUE))
    assert f"{minute - 500} high".encode() not in fields
    assert f"{recent} low".encode() in fields
    assert len(fields) == 2


def test_missed_slots_of_which_one_cannot_wait_are_all_fired_later(
    lanes: Lanes, dispatching: Dispatching, timetable: Timetable, redis_client: redis.Redis, keys: Keys, epoch: int
) -> None:
    timetable.writing.put([recurring(2)])
    timetable.writing.open_backlog(2, number=7, from_ms=100, to_ms=300, first_ms=100, left=3, rate=None)
    first = dispatching.entering.ids.take()
    redis_client.set(keys.entry(first + 4), "another's")
    backlog = dispatching.read_backlog("2:7")
    assert backlog is not None

    def drain() -> str:
        return dispatching.drain(epoch, backlog, slots_ms=[100, 200], commands=[FIRE, FIRE], next_ms=300, left=1, again_ms=5)

    assert drain().startswith("refused TAKEN")
    assert waiting(lanes) == [0, 0, 0]
    assert redis_client.get(keys.entry(first + 4)) == b"another's"
    again = dispatching.read_backlog("2:7")
    assert again is not None
    assert (again.next_ms, again.left) == (100, 3)

    assert drain() == "fired"
    assert waiting(lanes) == [2, 0, 0]


def test_what_stands_in_the_place_of_a_lane_refuses_one_task_and_doubles_no_other(
    lanes: Lanes, dispatching: Dispatching, timetable: Timetable, redis_client: redis.Redis, keys: Keys, epoch: int
) -> None:
    plain = replace(waiting_task("p1", queue=QUEUE), message=b"plain")
    timetable.writing.put_one_time([OneTimeWrite(name="", entry_id=9, mid="p1", due_ms=2000, record=plain.pack())])
    put_later(timetable)
    redis_client.set(keys.lane(QUEUE, LOW), "no lane")

    def fire() -> list[str]:
        call = dispatching.fire_once(epoch, [(2000, 9), (2000, 3)], fingerprint="f", queue_keys=[QUEUE.encode()], fair_queues=[QUEUE])
        return [status[:16] for status in call.statuses()[1]]

    assert fire() == ["fired", "refused the lane"]
    assert fire() == ["gone", "refused the lane"]
    assert redis_client.lrange(QUEUE, 0, -1) == [b"plain"]


def test_a_fire_for_what_is_no_lane_is_refused_with_nothing_written(
    lanes: Lanes, dispatching: Dispatching, timetable: Timetable, redis_client: redis.Redis, keys: Keys, epoch: int
) -> None:
    timetable.writing.put([recurring(2)])
    redis_client.set(keys.lane(QUEUE, HIGH), "no lane")
    write = SlotWrite(entry_id=2, due_ms=2000, version=1, slot_ms=2000, next_due_ms=3000, commands=[FIRE])

    (status,) = dispatching.fire(epoch, [write]).statuses()[1]

    assert status.startswith("refused the lane")
    assert redis_client.exists(keys.by_task, keys.templates) == 0
    redis_client.delete(keys.lane(QUEUE, HIGH))
    assert dispatching.fire(epoch, [write]).statuses()[1] == ["fired"]


def test_a_message_for_what_is_no_lane_leaves_nothing_behind(lanes: Lanes, redis_client: redis.Redis, keys: Keys, epoch: int) -> None:
    redis_client.set(keys.lane(QUEUE, LOW), "no lane")

    with pytest.raises(StoreRefused):
        enter(lanes, 1)

    assert redis_client.exists(keys.entry(3), keys.by_task, keys.templates) == 0


def test_what_stands_in_the_place_of_a_lane_stops_no_other(
    lanes: Lanes, admitting: Admitting, redis_client: redis.Redis, keys: Keys, epoch: int
) -> None:
    enter(lanes, 1)
    redis_client.set(keys.lane("bad", LOW), "no lane")
    redis_client.zadd(keys.lane("bad", HIGH), {"9": 1000})

    stands = admitting.make_room(epoch, {"bad": (5, "fair"), QUEUE: (5, "fair")})

    assert [stands[queue].waiting for queue in ("bad", QUEUE)] == [(1, 0, 0), (0, 0, 1)]
    heads = admitting.heads("bad", {Segment(HIGH, HIGH): (None, None), Segment(LOW, LOW): (None, None)}, limit=5)
    assert list(heads.values()) == [[(1000, 9)], []]
    assert [each.entry_id for each in admitting.came_between("bad", after_ms=None, until_ms=2000)] == [9]


def test_a_clock_that_was_set_back_does_not_hold_up_what_waits(
    lanes: Lanes, dispatching: Dispatching, redis_client: redis.Redis, keys: Keys, epoch: int
) -> None:
    enter(lanes, 1)
    redis_client.zincrby(keys.lane(QUEUE, LOW), 3_600_000, "3")

    assert admit(dispatching, epoch, choose(lanes)) == ["fired"]


def test_a_lane_is_read_by_pages_that_miss_nothing_when_others_leave(
    lanes: Lanes, redis_client: redis.Redis, keys: Keys, epoch: int
) -> None:
    enter(lanes, *range(1, 8))
    lane = keys.lane(QUEUE, LOW)
    for entry_id in (3, 5, 7, 9):
        redis_client.zadd(lane, {str(entry_id): 1000})

    found = []
    for page in lanes.pages(QUEUE, LOW, limit=2):
        found += [each.entry_id for each in page]
        redis_client.zrem(lane, *(each.entry_id for each in page))

    assert sorted(found) == [3, 5, 7, 9, 11, 13, 15]


def test_pages_end_with_the_moment_that_was_asked_for(lanes: Lanes, redis_client: redis.Redis, keys: Keys, epoch: int) -> None:
    enter(lanes, 1, 2, 3)
    redis_client.zadd(keys.lane(QUEUE, LOW), {"3": 1000, "5": 2000})

    assert [[each.since_ms for each in page] for page in lanes.pages(QUEUE, LOW, limit=5, until_ms=2000)] == [[1000, 2000]]
