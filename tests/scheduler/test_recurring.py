"""Slots decided ahead of their time."""

from dataclasses import replace

import redis

from celery_tw.core.misfire import Misfire
from tests.scheduler.conftest import KEYS, Stand
from tests.waiting import wait_until

HOUR_MS = 3_600_000


def test_a_slot_is_decided_and_rendered_before_it_is_due(stand: Stand) -> None:
    due_ms = stand.now_ms() + 2000
    entry_id = stand.put("soon", period_ms=HOUR_MS, mark_ms=due_ms - HOUR_MS)

    stand.lead().run()

    known = stand.engine.entries.get(entry_id)
    assert known is not None
    assert known.ready is not None
    assert (known.ready.decision.fire_ms, stand.sent()) == (due_ms, [])


def test_what_was_decided_ahead_is_fired_once(stand: Stand) -> None:
    due_ms = stand.now_ms() + 300
    stand.put("soon", period_ms=HOUR_MS, mark_ms=due_ms - HOUR_MS)
    stand.lead().run()

    wait_until(lambda: stand.run() or stand.sent())
    stand.run()

    assert stand.sent() == [("soon", due_ms)]


def test_an_entry_changed_after_it_was_decided_fires_as_changed(stand: Stand, redis_client: redis.Redis) -> None:
    due_ms = stand.now_ms() + 400
    entry_id = stand.put("soon", period_ms=HOUR_MS, mark_ms=due_ms - HOUR_MS)
    stand.lead().run()
    key = KEYS.entry(entry_id)
    definition = redis_client.hget(key, "def")
    redis_client.hset(key, mapping={"def": definition.replace(b'"task":"shop.tick"', b'"queue":"other","task":"shop.tick"'), "ver": 2})

    wait_until(lambda: stand.run() or stand.sent("other"), timeout_s=5)

    assert (stand.sent(), stand.sent("other")) == ([], [("soon", due_ms)])


def test_a_slot_decided_ahead_and_then_missed_meets_the_misfire_policy(stand: Stand) -> None:
    due_ms = stand.now_ms() + 100
    entry_id = stand.put("soon", period_ms=HOUR_MS, mark_ms=due_ms - HOUR_MS, misfire=Misfire.skip(), tolerance_ms=50)
    stand.lead().run()
    known = stand.engine.entries.get(entry_id)
    assert known is not None
    assert known.ready is not None

    wait_until(lambda: stand.now_ms() > due_ms + 100)
    stand.run()

    assert stand.sent() == []
    assert stand.timetable.history(entry_id, 1)[1]


def test_a_decision_serves_only_its_due_time_and_until_the_slot_is_missed(stand: Stand) -> None:
    due_ms = stand.now_ms() + 2000
    entry_id = stand.put("soon", period_ms=HOUR_MS, mark_ms=due_ms - HOUR_MS, tolerance_ms=5000)
    stand.lead().run()
    known = stand.engine.entries.get(entry_id)
    assert known is not None
    assert known.ready is not None
    ready = replace(known.ready)

    assert not ready.serves(due_ms, due_ms - 1)
    assert ready.serves(due_ms, due_ms)
    assert ready.serves(due_ms, due_ms + 5000)
    assert not ready.serves(due_ms, due_ms + 5001)
    assert not ready.serves(due_ms + 1, due_ms + 1)


def test_large_messages_go_in_several_calls_and_each_once(stand: Stand) -> None:
    now_ms = stand.now_ms()
    for number in range(12):
        stand.put("x" * 500_000 + str(number), period_ms=HOUR_MS, mark_ms=now_ms - HOUR_MS)

    stand.lead()
    wait_until(lambda: stand.run() or len(stand.sent()) >= 12, timeout_s=10)

    assert sorted(int(name.strip("x")) for name, _ in stand.sent()) == list(range(12))
