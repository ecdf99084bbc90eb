"""The leader's verbs on a real server: what is claimed, what is refused, what is left alone."""

import json

import pytest
import redis

from celery_tw.core.command import Command
from celery_tw.core.misfire import MissedRange, SkippedRange
from celery_tw.errors import StaleEpoch
from celery_tw.stores.redis.codec import decode_skip
from celery_tw.stores.redis.dispatching import Dispatching, SlotWrite
from celery_tw.stores.redis.election import Election
from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.redis.timetable import Timetable
from tests.stores.test_timetable import one_time, recurring

TO_CELERY = Command("lpush", b"celery", b"message")


def write(entry_id: int = 2, **changes: object) -> SlotWrite:
    fields: dict[str, object] = {
        "entry_id": entry_id,
        "due_ms": 2000,
        "version": 1,
        "slot_ms": 2000,
        "next_due_ms": 3000,
        "commands": [TO_CELERY],
    }
    return SlotWrite(**{**fields, **changes})  # type: ignore[arg-type]


def test_a_slot_is_fired_and_decided_in_one_step(
    timetable: Timetable, dispatching: Dispatching, redis_client: redis.Redis, epoch: int
) -> None:
    timetable.writing.put([recurring(2)])

    now_ms, statuses = dispatching.fire(epoch, [write()]).statuses()

    assert statuses == ["fired"]
    assert redis_client.lrange("celery", 0, -1) == [b"message"]
    (stored,) = timetable.read([2])
    assert stored is not None
    assert (stored.mark_ms, stored.due_ms, stored.count, stored.fired_ms) == (2000, 3000, 1, now_ms)
    assert timetable.history(2, 10)[0] == [b"2000 %d 0" % now_ms]


def test_the_same_slot_is_never_fired_twice(timetable: Timetable, dispatching: Dispatching, redis_client: redis.Redis, epoch: int) -> None:
    timetable.writing.put([recurring(2)])
    dispatching.fire(epoch, [write()]).statuses()

    assert dispatching.fire(epoch, [write()]).statuses()[1] == ["moved"]
    assert dispatching.fire(epoch, [write(due_ms=3000)]).statuses()[1] == ["moved"]
    assert redis_client.llen("celery") == 1


def test_a_stale_leader_cannot_fire(timetable: Timetable, dispatching: Dispatching, election: Election, redis_client: redis.Redis) -> None:
    old = election.acquire("old", lease_ms=60_000)
    timetable.writing.put([recurring(2)])
    timetable.writing.put_one_time([one_time(3)])
    election.resign(old.epoch)
    election.acquire("new", lease_ms=60_000)

    with pytest.raises(StaleEpoch):
        dispatching.fire(old.epoch, [write()]).statuses()
    with pytest.raises(StaleEpoch):
        dispatching.fire_once(old.epoch, [(2000, 3)], fingerprint="f", queue_keys=[b"celery"]).statuses()
    with pytest.raises(StaleEpoch):
        dispatching.quarantine(old.epoch, "2", "bad")

    assert redis_client.llen("celery") == 0


def test_no_slot_is_fired_before_its_time(timetable: Timetable, dispatching: Dispatching, epoch: int) -> None:
    due_ms = timetable.now_ms() + 60_000
    timetable.writing.put([recurring(2, due_ms=due_ms)])
    timetable.writing.put_one_time([one_time(3, due_ms=due_ms)])

    assert dispatching.fire(epoch, [write(due_ms=due_ms, slot_ms=due_ms)]).statuses()[1] == ["early"]
    assert dispatching.fire_once(epoch, [(due_ms, 3)], fingerprint="f", queue_keys=[b"celery"]).statuses()[1] == ["early"]


def test_a_slot_decided_before_the_clock_was_set_back_behind_it_waits(
    timetable: Timetable, dispatching: Dispatching, redis_client: redis.Redis, epoch: int
) -> None:
    now_ms = timetable.now_ms()
    timetable.writing.put([recurring(2, due_ms=now_ms - 5000)])
    latest = write(due_ms=now_ms - 5000, slot_ms=now_ms + 60_000, next_due_ms=now_ms + 61_000)

    assert dispatching.fire(epoch, [latest]).statuses()[1] == ["early"]

    assert redis_client.llen("celery") == 0


def test_a_changed_entry_is_not_fired_as_it_was(timetable: Timetable, dispatching: Dispatching, epoch: int) -> None:
    timetable.writing.put([recurring(2)])
    timetable.writing.put([recurring(2, version=1, definition=b'{"v":1}')])

    assert dispatching.fire(epoch, [write()]).statuses()[1] == ["moved"]


def test_a_queue_key_of_another_type_harms_only_its_own_entry(
    timetable: Timetable, dispatching: Dispatching, redis_client: redis.Redis, epoch: int
) -> None:
    redis_client.set("wrong", "text")
    timetable.writing.put([recurring(2), recurring(4, name="tock")])
    timetable.writing.put_one_time([one_time(3, queue="wrong"), one_time(5, name="b", mid="m2")])

    _, statuses = dispatching.fire(epoch, [write(2, commands=[Command("lpush", b"wrong", b"x")]), write(4)]).statuses()
    _, once = dispatching.fire_once(epoch, [(2000, 3), (2000, 5)], fingerprint="f", queue_keys=[b"celery", b"wrong"]).statuses()

    assert statuses == ["refused the queue key wrong holds a string, not a list", "fired"]
    assert once == ["refused the queue key wrong holds a string, not a list", "fired"]
    assert timetable.nearest(10) == [(2000, 2), (2000, 3), (3000, 4)]


def test_all_messages_of_a_canvas_go_out_or_none(
    timetable: Timetable, dispatching: Dispatching, redis_client: redis.Redis, epoch: int
) -> None:
    redis_client.set("wrong", "text")
    timetable.writing.put([recurring(2), recurring(4, name="tock")])
    torn = [TO_CELERY, Command("lpush", b"wrong", b"x")]
    whole = [TO_CELERY, Command("lpush", b"other", b"y"), Command("pexpire", b"other", b"60000")]

    _, statuses = dispatching.fire(epoch, [write(2, commands=torn), write(4, commands=whole)]).statuses()

    assert [status.partition(" ")[0] for status in statuses] == ["refused", "fired"]
    assert redis_client.llen("celery") == redis_client.llen("other") == 1
    assert redis_client.pttl("other") > 0


def test_firing_goes_on_when_memory_is_full(timetable: Timetable, dispatching: Dispatching, redis_client: redis.Redis, epoch: int) -> None:
    timetable.writing.put([recurring(2)])
    timetable.writing.put_one_time([one_time(3)])
    redis_client.config_set("maxmemory", 1)
    try:
        assert dispatching.fire(epoch, [write()]).statuses()[1] == ["fired"]
        assert dispatching.fire_once(epoch, [(2000, 3)], fingerprint="f", queue_keys=[b"celery"]).statuses()[1] == ["fired"]
    finally:
        redis_client.config_set("maxmemory", 0)

    assert redis_client.llen("celery") == 2


def test_missed_slots_are_recorded_with_the_fire_that_decides_them(timetable: Timetable, dispatching: Dispatching, epoch: int) -> None:
    timetable.writing.put([recurring(2)])
    skipped = SkippedRange(from_ms=2000, to_ms=4000, count=3, reason="misfire:latest")
    missed = MissedRange(from_ms=2000, to_ms=4000, next_ms=2000, left=3, rate=10.0)

    dispatching.fire(epoch, [write(slot_ms=5000, next_due_ms=6000, skipped=skipped, backlog=missed)]).statuses()

    assert [decode_skip(raw) for raw in timetable.history(2, 10)[1]] == [skipped]
    backlog = dispatching.read_backlog("2:5000")
    assert backlog is not None
    assert (backlog.next_ms, backlog.to_ms, backlog.left, backlog.rate, backlog.generation) == (2000, 4000, 3, 10.0, 0)
    assert dispatching.poll(now_ms=timetable.now_ms() + 5, limit=10, backlogs=10)[1] == [b"2:5000"]


def test_a_decision_without_a_fire_moves_the_mark_only(timetable: Timetable, dispatching: Dispatching, epoch: int) -> None:
    timetable.writing.put([recurring(2)])
    dispatching.fire(epoch, [write()]).statuses()

    dispatching.fire(epoch, [write(due_ms=3000, slot_ms=5000, next_due_ms=None, commands=[])]).statuses()

    (stored,) = timetable.read([2])
    assert stored is not None
    assert (stored.mark_ms, stored.count, stored.due_ms) == (5000, 1, None)
    assert stored.fired_ms is not None


def test_a_backlog_moves_on_only_with_its_messages(
    timetable: Timetable, dispatching: Dispatching, redis_client: redis.Redis, epoch: int
) -> None:
    timetable.writing.put([recurring(2)])
    timetable.writing.open_backlog(2, number=7, from_ms=100, to_ms=300, first_ms=100, left=3, rate=None)
    backlog = dispatching.read_backlog("2:7")
    assert backlog is not None
    two = {"slots_ms": [100, 200], "commands": [TO_CELERY, TO_CELERY], "next_ms": 300, "left": 1, "again_ms": 5}

    assert dispatching.drain(epoch, backlog, **two) == "fired"
    assert dispatching.drain(epoch, backlog, **two) == "moved"
    rest = dispatching.read_backlog("2:7")
    assert rest is not None
    assert (rest.next_ms, rest.left, rest.generation) == (300, 1, 1)
    last = {"slots_ms": [300], "commands": [TO_CELERY], "next_ms": None, "left": 0, "again_ms": 5}
    assert dispatching.drain(epoch, rest, **last) == "fired"
    assert dispatching.read_backlog("2:7") is None
    assert redis_client.llen("celery") == 3


def test_the_backlog_of_a_removed_entry_ends(timetable: Timetable, dispatching: Dispatching, epoch: int) -> None:
    timetable.writing.put([recurring(2)])
    timetable.writing.open_backlog(2, number=7, from_ms=100, to_ms=300, first_ms=100, left=3, rate=None)
    backlog = dispatching.read_backlog("2:7")
    assert backlog is not None
    timetable.writing.remove("tick", 2)

    assert dispatching.drain(epoch, backlog, slots_ms=[100], commands=[TO_CELERY], next_ms=200, left=2, again_ms=5) == "removed"
    assert timetable.backlog_sizes() == {}


def test_a_backlog_is_not_drained_on_what_its_entry_was_before(
    timetable: Timetable, dispatching: Dispatching, redis_client: redis.Redis, epoch: int
) -> None:
    timetable.writing.put([recurring(2)])
    timetable.writing.open_backlog(2, number=7, from_ms=100, to_ms=300, first_ms=100, left=3, rate=None)
    backlog, (stored,) = dispatching.read_backlog("2:7"), timetable.read([2])
    assert backlog is not None
    assert stored is not None
    paused = [("paused", "1")]
    assert timetable.writing.change(2, version=stored.version, mark_ms=stored.mark_ms, due_ms=None, fields=paused)
    slots = {"slots_ms": [100], "commands": [TO_CELERY], "next_ms": 200, "left": 2, "again_ms": 5}

    assert dispatching.drain(epoch, backlog, version=stored.version, **slots) == "moved"
    assert redis_client.llen("celery") == 0
    assert dispatching.drain(epoch, backlog, version=stored.version + 1, **slots) == "fired"


def test_a_backlog_waits_when_the_clock_was_set_back_behind_its_slots(
    timetable: Timetable, dispatching: Dispatching, redis_client: redis.Redis, epoch: int, keys: Keys
) -> None:
    timetable.writing.put([recurring(2)])
    later_ms = timetable.now_ms() + 60_000
    timetable.writing.open_backlog(2, number=7, from_ms=100, to_ms=later_ms, first_ms=100, left=3, rate=None)
    backlog = dispatching.read_backlog("2:7")
    assert backlog is not None
    slots = {"slots_ms": [100, later_ms], "commands": [TO_CELERY, TO_CELERY], "next_ms": None, "left": 0, "again_ms": 5}

    assert dispatching.drain(epoch, backlog, **slots) == "early"

    assert redis_client.llen("celery") == 0
    assert redis_client.zscore(keys.backlogs, "2:7") == later_ms


def test_a_fired_one_time_task_leaves_no_trace_but_its_marker(
    timetable: Timetable, dispatching: Dispatching, redis_client: redis.Redis, keys: Keys, epoch: int
) -> None:
    fresh = one_time(3)
    record = fresh.record.replace(b"\n1\n", b"\n%d\n" % timetable.now_ms(), 1)
    again = type(fresh)(name=fresh.name, entry_id=3, mid=fresh.mid, due_ms=fresh.due_ms, record=record)
    timetable.writing.put_one_time([again])

    assert dispatching.fire_once(epoch, [(2000, 3)], fingerprint="f", queue_keys=[b"celery"]).statuses()[1] == ["fired"]

    assert redis_client.lrange("celery", 0, -1) == [b"{}"]
    assert not redis_client.exists(keys.entry(3), keys.names, keys.due)
    assert timetable.writing.put_one_time([again])[1] == ["fired"]
    assert dispatching.fire_once(epoch, [(2000, 3)], fingerprint="f", queue_keys=[b"celery"]).statuses()[1] == ["gone"]


def test_one_time_tasks_are_refused_by_name_of_their_trouble(
    timetable: Timetable, dispatching: Dispatching, redis_client: redis.Redis, keys: Keys, epoch: int
) -> None:
    timetable.writing.put_one_time(
        [one_time(1, name="a", mid="a"), one_time(3, name="b", mid="b", due_ms=2001), one_time(5, name="c", mid="c")]
    )
    redis_client.set(keys.entry(5), b"junk")

    pairs = [(2000, 1), (2000, 3), (2000, 5), (2000, 7)]

    assert dispatching.fire_once(epoch, pairs, fingerprint="f", queue_keys=[]).statuses()[1] == [
        "undeclared celery",
        "moved",
        "malformed the record cannot be read",
        "gone",
    ]
    assert dispatching.fire_once(epoch, pairs[:1], fingerprint="g", queue_keys=[]).statuses()[1] == ["foreign"]


def test_a_one_time_task_past_its_last_moment_is_skipped_and_recorded(
    timetable: Timetable, dispatching: Dispatching, redis_client: redis.Redis, epoch: int
) -> None:
    late = one_time(3)
    record = late.record.replace(b"\n1\n\n", b"\n1\n2500\n", 1)
    timetable.writing.put_one_time([type(late)(name="later", entry_id=3, mid="m1", due_ms=2000, record=record)])

    assert dispatching.fire_once(epoch, [(2000, 3)], fingerprint="f", queue_keys=[b"celery"]).statuses()[1] == ["late"]

    assert redis_client.llen("celery") == 0
    (skip,) = timetable.history(0, 10)[1]
    assert (json.loads(skip)["name"], decode_skip(skip).from_ms) == ("later", 2000)


@pytest.mark.parametrize("limit", [1, 7, 100])
def test_pages_hold_each_entry_once_however_many_share_a_moment(
    timetable: Timetable, dispatching: Dispatching, redis_client: redis.Redis, keys: Keys, limit: int
) -> None:
    wanted = {str(number): 1000 + number // 20 for number in range(100)}
    redis_client.zadd(keys.due, wanted)

    seen: list[bytes] = []
    cursor = (0, "")
    while page := dispatching.page(cursor_ms=cursor[0], cursor_member=cursor[1], until_ms=2000, limit=limit):
        seen += [member for _, member in page]
        cursor = (page[-1][0], page[-1][1].decode())
        redis_client.zrem(keys.due, page[-1][1])  # the cursor's own entry may be gone

    assert len(seen) == len(set(seen)) == 100


def test_a_page_ends_at_the_moment_asked_for(dispatching: Dispatching, redis_client: redis.Redis, keys: Keys) -> None:
    redis_client.zadd(keys.due, {"2": 10, "4": 20, "6": 30})

    assert dispatching.page(cursor_ms=0, cursor_member="", until_ms=20, limit=10) == [(10, b"2"), (20, b"4")]


def test_what_is_quarantined_is_no_longer_due(timetable: Timetable, dispatching: Dispatching, epoch: int) -> None:
    timetable.writing.put([recurring(2)])

    dispatching.quarantine(epoch, "2", "not JSON")

    assert timetable.nearest(5) == []
    assert json.loads(timetable.quarantined()["2"]) == {"reason": "not JSON"}
