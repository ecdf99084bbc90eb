"""The leader's work, step by step, on a real server."""

import json
from collections.abc import Callable

import pytest
import redis

from celery_tw.core.misfire import Misfire
from celery_tw.scheduler.engine import LOOK_AHEAD_MS
from celery_tw.stores.redis.codec import decode_skip
from celery_tw.stores.redis.writing import RecurringWrite
from tests.scheduler.conftest import KEYS, Stand
from tests.waiting import wait_until

HOUR_MS = 3_600_000


def skips(stand: Stand, entry_id: int) -> list[tuple[int, str]]:
    return [(skip.count, skip.reason) for skip in map(decode_skip, stand.timetable.history(entry_id, 10)[1])]


def test_what_is_due_is_fired_and_what_is_not_waits(stand: Stand) -> None:
    now_ms = stand.now_ms()
    stand.put("due", period_ms=HOUR_MS, mark_ms=now_ms - HOUR_MS)
    stand.put("later", period_ms=HOUR_MS, mark_ms=now_ms)
    stand.put_once("once", now_ms)

    stand.lead().run()

    assert sorted(stand.sent()) == [("due", now_ms), ("once", now_ms)]


def test_nothing_is_fired_by_a_scheduler_that_does_not_lead(stand: Stand) -> None:
    stand.put(mark_ms=stand.now_ms() - 1000)

    stand.run()

    assert stand.sent() == []


def test_news_of_an_entry_reach_the_leader(stand: Stand) -> None:
    stand.lead().run()

    now_ms = stand.now_ms()
    stand.put("soon", period_ms=HOUR_MS, mark_ms=now_ms - HOUR_MS)

    assert wait_until(lambda: stand.run() or stand.sent()) == [("soon", now_ms)]


def test_an_entry_that_the_wheel_does_not_know_is_found_within_a_second(stand: Stand, redis_client: redis.Redis) -> None:
    stand.lead().run()
    now_ms = stand.now_ms()
    stand.put("lost", period_ms=HOUR_MS, mark_ms=now_ms - HOUR_MS)
    stand.news.read(block_ms=1)  # the news go to nobody

    wait_until(lambda: stand.run() or stand.sent(), timeout_s=5)

    assert stand.sent() == [("lost", now_ms)]


def test_a_gap_in_the_news_makes_the_leader_read_again(stand: Stand, redis_client: redis.Redis) -> None:
    stand.lead().run()
    far_ms = stand.now_ms() + HOUR_MS
    redis_client.zadd(KEYS.due, {"9999": far_ms})
    redis_client.incr(KEYS.news_seq)
    before = len(stand.engine.horizon)

    stand.put("x", period_ms=HOUR_MS, mark_ms=stand.now_ms())
    stand.run()

    assert (before, len(stand.engine.horizon)) == (0, 2)


def test_a_removed_entry_is_not_fired(stand: Stand) -> None:
    now_ms = stand.now_ms()
    entry_id = stand.put("gone", period_ms=HOUR_MS, mark_ms=now_ms - HOUR_MS + 200)
    stand.lead().run()
    stand.timetable.writing.remove("gone", entry_id)

    wait_until(lambda: stand.run() or stand.now_ms() > now_ms + 400)

    assert stand.sent() == []


def test_live_slots_are_each_fired(stand: Stand) -> None:
    now_ms = stand.now_ms()
    stand.put(period_ms=1000, mark_ms=now_ms - 4000)

    stand.lead().run()

    assert stand.sent()[:4] == [("tick", now_ms - 3000), ("tick", now_ms - 2000), ("tick", now_ms - 1000), ("tick", now_ms)]


def test_of_missed_slots_the_latest_is_fired_and_the_rest_recorded(stand: Stand) -> None:
    now_ms = stand.now_ms()
    entry_id = stand.put(period_ms=HOUR_MS, mark_ms=now_ms - 4 * HOUR_MS - 60_000)

    stand.lead().run()

    assert stand.sent() == [("tick", now_ms - 60_000)]
    assert skips(stand, entry_id) == [(3, "misfire:latest")]


def test_missed_slots_are_skipped_and_recorded(stand: Stand) -> None:
    now_ms = stand.now_ms()
    entry_id = stand.put(period_ms=HOUR_MS, mark_ms=now_ms - 4 * HOUR_MS - 60_000, misfire=Misfire.skip())

    stand.lead().run()

    assert stand.sent() == []
    assert skips(stand, entry_id) == [(4, "misfire:skip")]
    (stored,) = stand.timetable.read([entry_id])
    assert stored is not None
    assert stored.due_ms == now_ms - 60_000 + HOUR_MS


def test_missed_slots_are_caught_up_oldest_first_and_live_ones_do_not_wait(stand: Stand) -> None:
    now_ms = stand.now_ms()
    start_ms = now_ms - 20 * HOUR_MS - 60_000
    stand.put("old", period_ms=HOUR_MS, mark_ms=start_ms, misfire=Misfire.catch_up(rate=1000, limit=10))
    stand.put("live", period_ms=HOUR_MS, mark_ms=now_ms - HOUR_MS)

    stand.lead()
    wait_until(lambda: stand.run() or len(stand.sent()) >= 11, timeout_s=10)

    assert stand.sent()[0] == ("live", now_ms)
    assert stand.sent()[1:] == [("old", start_ms + n * HOUR_MS) for n in range(11, 21)]
    assert stand.timetable.backlog_sizes() == {}


def test_a_backlog_keeps_to_the_queue_s_rate(make_stand: Callable[..., Stand]) -> None:
    stand = make_stand("me", catch_up_rate=20.0)
    now_ms = stand.now_ms()
    stand.put(period_ms=1000, mark_ms=now_ms - 600_000, misfire=Misfire.catch_up(rate=1000, limit=500))

    stand.lead()
    wait_until(lambda: stand.run() or stand.now_ms() > now_ms + 1000)

    missed = [slot for _, slot in stand.sent() if slot < now_ms - 5500]
    assert 10 <= len(missed) <= 60


def test_an_entry_ends_after_its_runs(stand: Stand) -> None:
    now_ms = stand.now_ms()
    entry_id = stand.put(period_ms=1000, mark_ms=now_ms - 4000, max_runs=2)

    stand.lead().run()

    assert stand.sent() == [("tick", now_ms - 3000), ("tick", now_ms - 2000)]
    (stored,) = stand.timetable.read([entry_id])
    assert stored is not None
    assert (stored.due_ms, stored.count) == (None, 2)


def test_an_entry_of_one_slot_leaves_the_timetable_with_it(stand: Stand, redis_client: redis.Redis) -> None:
    at_ms = stand.now_ms()
    entry_id = stand.put("once", mark_ms=at_ms - 1000, due_ms=at_ms, schedule={"kind": "once", "at_ms": at_ms})

    stand.lead().run()

    assert stand.sent() == [("once", at_ms)]
    assert stand.timetable.find(["once"]) == [None]
    assert not redis_client.exists(KEYS.entry(entry_id), KEYS.history(entry_id))


def test_a_broken_entry_is_set_aside_and_harms_no_other(stand: Stand, redis_client: redis.Redis) -> None:
    now_ms = stand.now_ms()
    broken = stand.put("broken", period_ms=HOUR_MS, mark_ms=now_ms - HOUR_MS)
    redis_client.hset(KEYS.entry(broken), "def", "{")
    stand.put("sound", period_ms=HOUR_MS, mark_ms=now_ms - HOUR_MS)
    redis_client.zadd(KEYS.due, {"junk": now_ms})

    stand.lead().run()

    assert stand.sent() == [("sound", now_ms)]
    assert set(stand.timetable.quarantined()) == {str(broken), "junk"}
    assert json.loads(stand.timetable.quarantined()[str(broken)])["reason"].startswith("the record is not JSON")


def test_an_entry_of_a_newer_version_makes_this_process_stand_down(stand: Stand, redis_client: redis.Redis) -> None:
    entry_id = stand.put(mark_ms=stand.now_ms() - 1000)
    redis_client.hset(KEYS.entry(entry_id), "def", '{"v": 99}')

    stand.lead().run()
    stand.elector.step()

    assert not stand.elector.leads()
    assert stand.timetable.quarantined() == {}


def test_a_queue_key_of_another_type_keeps_the_slot_open(stand: Stand, redis_client: redis.Redis) -> None:
    redis_client.set("wrong", "text")
    now_ms = stand.now_ms()
    entry_id = stand.put("wrong", period_ms=HOUR_MS, mark_ms=now_ms - HOUR_MS, signature={"task": "t", "queue": "wrong"})
    stand.put("sound", period_ms=HOUR_MS, mark_ms=now_ms - HOUR_MS)

    stand.lead().run()

    assert stand.sent() == [("sound", now_ms)]
    (stored,) = stand.timetable.read([entry_id])
    assert stored is not None
    assert stored.mark_ms == now_ms - HOUR_MS
    assert stand.engine.gauges.refused == 1


def test_a_message_made_for_another_broker_is_made_again(stand: Stand) -> None:
    now_ms = stand.now_ms()
    stand.put_once("moved", now_ms, fingerprint="old")

    stand.lead().run()

    assert stand.sent() == [("moved", now_ms)]


def test_a_new_leader_goes_on_where_the_old_one_stopped(make_stand: Callable[..., Stand]) -> None:
    old, new = make_stand("old"), make_stand("new")
    now_ms = old.now_ms()
    old.put(period_ms=1000, mark_ms=now_ms - 3000)
    old.lead().run()
    old.elector.election.resign(old.elector.term.epoch)  # type: ignore[union-attr]  # the old leader does not know

    new.lead()
    wait_until(lambda: new.run() or len(new.sent()) >= 5, timeout_s=5)
    old.run()

    slots = [slot for _, slot in new.sent()]
    assert slots == sorted(set(slots)) == list(range(slots[0], slots[-1] + 1, 1000))
    assert not old.elector.term or old.engine.step() > 0


def test_more_entries_than_the_wheel_may_hold_are_paged_in(make_stand: Callable[..., Stand]) -> None:
    stand = make_stand("me", wheel_capacity=100)
    now_ms = stand.now_ms()
    for n in range(150):
        stand.put_once(f"far-{n}", now_ms + HOUR_MS + n)
    for n in range(150):
        stand.put_once(f"near-{n}", now_ms + n)

    stand.lead()
    wait_until(lambda: stand.run() or len(stand.sent()) == 150, timeout_s=10)

    assert [name for name, _ in stand.sent()] == [f"near-{n}" for n in range(150)]
    assert len(stand.engine.horizon) <= 1100


def test_a_held_clock_holds_dispatch(stand: Stand) -> None:
    stand.put(mark_ms=stand.now_ms() - 1000)
    stand.lead()
    stand.elector.dispatch_held = True

    stand.run()

    assert stand.sent() == []
    stand.elector.dispatch_held = False
    stand.run()
    assert stand.sent()


def test_entries_are_in_hand_before_they_are_due(stand: Stand) -> None:
    soon_ms = stand.now_ms() + LOOK_AHEAD_MS - 500
    entry_id = stand.put(period_ms=HOUR_MS, mark_ms=soon_ms - HOUR_MS)

    stand.lead().run()

    assert entry_id in stand.engine.upcoming
    assert stand.engine.entries.get(entry_id) is not None


def test_a_late_entry_of_one_slot_is_fired_even_when_it_is_to_catch_up(stand: Stand) -> None:
    at_ms = stand.now_ms() - HOUR_MS
    schedule = {"kind": "once", "at_ms": at_ms}
    stand.put("once", mark_ms=at_ms - 1000, due_ms=at_ms, schedule=schedule, misfire=Misfire.catch_up())

    stand.lead().run()

    assert stand.sent() == [("once", at_ms)]


def test_runs_still_in_the_backlog_count_as_runs(stand: Stand) -> None:
    now_ms = stand.now_ms()
    entry_id = stand.put(period_ms=1000, mark_ms=now_ms - 20_000, max_runs=6, misfire=Misfire.catch_up(rate=1000, limit=4))

    stand.lead()
    wait_until(lambda: stand.run() or len(stand.sent()) >= 6, timeout_s=10)
    end_ms = stand.now_ms() + 300
    wait_until(lambda: stand.run() or stand.now_ms() > end_ms)

    assert len(stand.sent()) == 6
    (stored,) = stand.timetable.read([entry_id])
    assert stored is not None
    assert (stored.count, stored.due_ms) == (6, None)


def test_a_broken_entry_that_is_stored_again_leaves_quarantine(stand: Stand, redis_client: redis.Redis) -> None:
    now_ms = stand.now_ms()
    broken = stand.put("broken", period_ms=HOUR_MS, mark_ms=now_ms - HOUR_MS)
    sound = redis_client.hget(KEYS.entry(broken), "def")
    redis_client.hset(KEYS.entry(broken), "def", "{")
    stand.lead().run()
    assert set(stand.timetable.quarantined()) == {str(broken)}

    assert sound is not None
    mended = RecurringWrite(
        name="broken",
        entry_id=broken,
        version=1,
        definition=sound,
        mark_expected_ms=now_ms - HOUR_MS,
        mark_ms=now_ms - HOUR_MS,
        due_ms=now_ms,
    )
    assert stand.timetable.writing.put([mended])[1] == ["put"]
    stand.run()

    assert stand.timetable.quarantined() == {}
    assert stand.sent() == [("broken", now_ms)]


def test_an_error_in_one_entry_neither_repeats_nor_loses_another(stand: Stand, redis_client: redis.Redis) -> None:
    now_ms = stand.now_ms()
    first = stand.put("first", period_ms=HOUR_MS, mark_ms=now_ms - HOUR_MS)
    stand.put("second", period_ms=HOUR_MS, mark_ms=now_ms - HOUR_MS)
    redis_client.set(KEYS.history(first), "not a list")

    stand.lead().run()

    assert sorted(stand.sent()) == [("first", now_ms), ("second", now_ms)]


def test_data_of_the_wrong_shape_ends_nothing(stand: Stand, redis_client: redis.Redis) -> None:
    now_ms = stand.now_ms()
    shapes = [
        '{"v":1,"name":"a","signature":{},"schedule":{"kind":"interval","period_ms":1000,"anchor_ms":0},"misfire":"x","tolerance_ms":1}',
        '{"v":1,"name":"b","signature":{},"schedule":{"kind":"interval"},"misfire":{"policy":"latest"},"tolerance_ms":1,"start_ms":"x"}',
        '{"v":1,"name":"c","signature":{},"schedule":{"kind":"never"},"misfire":{"policy":"latest"},"tolerance_ms":1}',
        "[]",
        "\x00",
    ]
    for number, shape in enumerate(shapes):
        entry_id = stand.put(f"bad-{number}", period_ms=HOUR_MS, mark_ms=now_ms - HOUR_MS)
        redis_client.hset(KEYS.entry(entry_id), "def", shape)
    text = stand.put("text", period_ms=HOUR_MS, mark_ms=now_ms - HOUR_MS)
    redis_client.delete(KEYS.entry(text))
    redis_client.set(KEYS.entry(text), "no hash")
    gone = stand.put("gone", period_ms=HOUR_MS, mark_ms=now_ms - HOUR_MS)
    redis_client.delete(KEYS.entry(gone))
    junk = stand.put("junk", period_ms=HOUR_MS, mark_ms=now_ms - HOUR_MS)
    redis_client.hset(KEYS.entry(junk), "mark", "yesterday")
    redis_client.zadd(KEYS.due, {"12345678": now_ms - 0.5})
    stand.put("sound", period_ms=HOUR_MS, mark_ms=now_ms - HOUR_MS)

    stand.lead()
    wait_until(lambda: stand.run() or stand.sent())

    assert stand.sent() == [("sound", now_ms)]
    assert {str(text), str(gone), str(junk)} <= set(stand.timetable.quarantined())


def test_a_full_server_still_gets_a_leader_that_fires(stand: Stand, redis_client: redis.Redis) -> None:
    now_ms = stand.now_ms()
    stand.put("due", period_ms=HOUR_MS, mark_ms=now_ms - HOUR_MS)
    stand.put("late", period_ms=HOUR_MS, mark_ms=now_ms - 9 * HOUR_MS, misfire=Misfire.catch_up(rate=1000))
    redis_client.config_set("maxmemory", 1)
    try:
        stand.lead()
        wait_until(lambda: stand.run() or len(stand.sent()) >= 10, timeout_s=10)
    finally:
        redis_client.config_set("maxmemory", 0)

    assert ("due", now_ms) in stand.sent()


def test_a_slot_that_was_rolled_back_is_found_again(stand: Stand, redis_client: redis.Redis) -> None:
    now_ms = stand.now_ms()
    entry_id = stand.put("tick", period_ms=2000, mark_ms=now_ms - 2000)
    stand.lead().run()
    assert stand.sent() == [("tick", now_ms)]

    redis_client.hset(KEYS.entry(entry_id), "mark", now_ms - 2000)  # as after a power cut: the last writes are gone
    redis_client.zadd(KEYS.due, {str(entry_id): now_ms})
    wait_until(lambda: stand.run() or len(stand.sent()) >= 2, timeout_s=5)

    assert stand.sent()[1] == ("tick", now_ms)


@pytest.mark.parametrize(
    ("period_ms", "offset_ms"),
    [(HOUR_MS, 0), (5000, 0), (1250, 0), (2500, 100)],
    ids=["the last one alone", "every other one", "one more between each two", "others"],
)
def test_a_backlog_whose_schedule_changed_is_closed_and_recorded(stand: Stand, period_ms: int, offset_ms: int) -> None:
    last_ms = stand.now_ms() // 10_000 * 10_000
    entry_id = stand.put("tick", period_ms=period_ms, mark_ms=last_ms + HOUR_MS + offset_ms)
    first_ms = last_ms - 10_000
    stand.timetable.writing.open_backlog(entry_id, number=7, from_ms=first_ms, to_ms=last_ms, first_ms=first_ms, left=5, rate=None)

    stand.lead()
    wait_until(lambda: stand.run() or not stand.timetable.backlog_sizes(), timeout_s=5)

    assert stand.sent() == []
    assert skips(stand, entry_id) == [(5, "schedule changed")]


def test_news_do_not_pile_up_in_a_stand_by(stand: Stand) -> None:
    for n in range(5):
        stand.put_once(f"n{n}", stand.now_ms() + HOUR_MS)
        stand.listen()
        stand.engine.step()

    assert len(stand.engine.mailbox) == 0


def test_entries_that_are_due_much_later_go_back_to_the_wheel(stand: Stand) -> None:
    now_ms = stand.now_ms()
    for n in range(20):
        stand.put(f"daily-{n}", period_ms=24 * HOUR_MS, mark_ms=now_ms - 24 * HOUR_MS)

    stand.lead().run()

    assert len(stand.sent()) == 20
    assert (len(stand.engine.upcoming), len(stand.engine.horizon)) == (0, 20)


def test_what_is_kept_back_does_not_wait_longer_because_the_clock_was_set_back(stand: Stand, redis_client: redis.Redis) -> None:
    now_ms = stand.lead().now_ms()
    stand.put(period_ms=HOUR_MS, mark_ms=now_ms - HOUR_MS)
    redis_client.set("queue", "no list")
    stand.engine.redis_time.observe(now_ms + 60_000)
    stand.run()
    assert stand.engine.gauges.refused == 1

    redis_client.delete("queue")
    stand.engine.redis_time.observe(stand.now_ms())
    stand.run()

    assert stand.sent() == [("tick", now_ms)]


@pytest.mark.parametrize("member", ["9" * 40, "07", "-3", "x", "\n"])
def test_a_member_of_the_timetable_that_is_no_entry_id_is_set_aside(stand: Stand, redis_client: redis.Redis, member: str) -> None:
    redis_client.zadd("{tw:shop:0}:due", {member: 1})
    stand.lead().run()

    assert stand.timetable.quarantined().keys() == {member}
    assert redis_client.zcard("{tw:shop:0}:due") == 0


def test_a_due_time_before_all_times_is_set_aside(stand: Stand, redis_client: redis.Redis) -> None:
    redis_client.zadd("{tw:shop:0}:due", {"2": "-inf"})
    stand.lead().run()

    assert stand.timetable.quarantined().keys() == {"2"}


def test_news_that_nobody_of_us_wrote_make_the_leader_read_again_and_nothing_else(stand: Stand, redis_client: redis.Redis) -> None:
    stand.lead().run()
    for fields in (
        {"n": "x"},
        {"kind": "entries"},
        {"n": "1", "kind": "entries", "what": "2"},
        {"n": "1", "kind": "entries", "what": "x:1"},
    ):
        redis_client.xadd("{tw:shop:0}:news", fields)

    heard, missed = stand.news.read(block_ms=1)

    assert heard == []
    assert missed
