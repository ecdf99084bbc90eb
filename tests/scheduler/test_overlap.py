"""Entries that may not overlap, on a real server: what is fired, skipped, kept for later and asked to stop."""

import redis

from celery_tw.core.identity import FireIds
from celery_tw.core.misfire import Misfire
from celery_tw.errors import StoreUnavailable
from celery_tw.scheduler.superseding import Superseding
from celery_tw.stores.redis.codec import decode_skip
from celery_tw.stores.redis.open_fires import OpenFires
from tests.scheduler.conftest import KEYS, Stand
from tests.waiting import wait_until

FIRE_IDS = FireIds("shop")


def open_fires(stand: Stand) -> OpenFires:
    return OpenFires(stand.client, KEYS)


def put_due(stand: Stand, overlap: str, **changes: object) -> tuple[int, int]:
    """Store an entry with one slot due now and the next in a minute; return its id and that slot."""
    now_ms = stand.now_ms()
    entry_id = stand.put("tick", period_ms=60_000, mark_ms=now_ms - 60_000, overlap=overlap, **changes)
    return entry_id, now_ms


def due_again(stand: Stand, entry_id: int) -> None:
    """Set the entry back by one slot, so that its last one is due once more."""
    (stored,) = stand.timetable.read([entry_id])
    assert stored is not None
    stand.client.hset(KEYS.entry(entry_id), mapping={"mark": stored.mark_ms - 60_000})
    stand.client.zadd(KEYS.due, {str(entry_id): stored.mark_ms})
    stand.engine.hear([], True)


def give_backlogs_a_turn(stand: Stand) -> None:
    if members := stand.client.zrange(KEYS.backlogs, 0, -1):
        stand.client.zadd(KEYS.backlogs, dict.fromkeys(members, 0))
    stand.engine._poll_boot_ms = 0
    stand.run()


def reasons(stand: Stand, entry_id: int) -> list[str]:
    return [decode_skip(raw).reason for raw in stand.client.zrange(KEYS.skips(entry_id), 0, -1)]


def test_a_fire_is_open_until_its_task_has_ended(stand: Stand) -> None:
    entry_id, slot_ms = put_due(stand, "skip")
    stand.lead().run()
    task_id = FIRE_IDS.fire_id(entry_id, slot_ms)

    assert open_fires(stand).look([(entry_id, "tick")])[entry_id].tasks == (task_id,)
    open_fires(stand).end("tick", task_id)
    assert open_fires(stand).look([(entry_id, "tick")])[entry_id].tasks == ()


def test_an_entry_that_may_overlap_is_not_counted(stand: Stand) -> None:
    put_due(stand, "allow")
    stand.lead().run()

    assert stand.sent()
    assert not stand.client.exists(KEYS.open_fires("tick"))


def test_a_slot_is_skipped_and_recorded_while_a_fire_is_there(stand: Stand) -> None:
    entry_id, slot_ms = put_due(stand, "skip")
    open_fires(stand).begin("tick", "before", kept_ms=60_000)
    stand.lead().run()

    assert stand.sent() == []
    assert reasons(stand, entry_id) == ["overlap:skip"]
    (stored,) = stand.timetable.read([entry_id])
    assert stored is not None
    assert (stored.mark_ms, stored.count, stored.due_ms) == (slot_ms, 0, slot_ms + 60_000)
    assert stand.engine.gauges.skipped == 1


def test_a_skipped_slot_is_none_of_the_runs_that_an_entry_has(stand: Stand) -> None:
    entry_id, _ = put_due(stand, "skip", max_runs=1)
    open_fires(stand).begin("tick", "before", kept_ms=60_000)
    stand.lead().run()

    (stored,) = stand.timetable.read([entry_id])
    assert stored is not None
    assert stored.due_ms is not None


def test_a_fire_that_nobody_keeps_alive_is_forgotten(stand: Stand) -> None:
    entry_id, _ = put_due(stand, "skip")
    open_fires(stand).begin("tick", "killed", kept_ms=1)
    wait_until(lambda: not open_fires(stand).look([(entry_id, "tick")])[entry_id].tasks)
    stand.lead().run()

    assert len(stand.sent()) == 1


def test_a_slot_waits_for_the_fire_before_and_goes_out_when_it_ends(stand: Stand) -> None:
    entry_id, slot_ms = put_due(stand, "buffer_one")
    open_fires(stand).begin("tick", "before", kept_ms=60_000)
    stand.lead().run()
    assert stand.sent() == []
    assert open_fires(stand).look([(entry_id, "tick")])[entry_id].waits

    open_fires(stand).end("tick", "before")
    stand.run()

    assert stand.sent() == [("tick", slot_ms)]
    standing = open_fires(stand).look([(entry_id, "tick")])[entry_id]
    assert standing.tasks == (FIRE_IDS.fire_id(entry_id, slot_ms),)
    assert not standing.waits
    assert reasons(stand, entry_id) == []


def test_while_a_slot_waits_later_ones_are_recorded_as_skipped(stand: Stand) -> None:
    entry_id, _ = put_due(stand, "buffer_one")
    open_fires(stand).begin("tick", "before", kept_ms=60_000)
    stand.lead().run()

    due_again(stand, entry_id)
    stand.run()

    assert stand.sent() == []
    assert reasons(stand, entry_id) == ["overlap:buffer_one"]
    assert stand.client.zcard(KEYS.backlogs) == 1


def test_a_slot_that_waits_is_fired_by_the_next_leader(stand: Stand, make_stand) -> None:
    _, slot_ms = put_due(stand, "buffer_one")
    open_fires(stand).begin("tick", "before", kept_ms=60_000)
    stand.lead().run()
    stand.elector.resign()
    open_fires(stand).end("tick", "before")

    make_stand("next").lead().run()

    assert stand.sent() == [("tick", slot_ms)]


def test_a_slot_takes_the_place_of_the_fire_before(redis_client: redis.Redis) -> None:
    asked = []
    stand = Stand(redis_client)
    stand.engine.dispatch.recurring.supersede = lambda name, tasks: asked.append((name, tuple(tasks)))
    entry_id, slot_ms = put_due(stand, "cancel_previous")
    open_fires(stand).queue("tick", "before", kept_ms=60_000)
    stand.lead().run()

    assert stand.sent() == [("tick", slot_ms)]
    assert asked == [("tick", ("before",))]
    assert set(open_fires(stand).look([(entry_id, "tick")])[entry_id].tasks) == {"before", FIRE_IDS.fire_id(entry_id, slot_ms)}


def test_the_slots_of_a_backlog_wait_for_each_other(stand: Stand) -> None:
    now_ms = stand.now_ms()
    mark_ms = now_ms - 3 * 60_000 - 30_000
    entry_id = stand.put("tick", period_ms=60_000, mark_ms=mark_ms, overlap="skip", misfire=Misfire.catch_up(rate=1000))
    stand.lead()

    for number in (1, 2, 3):
        for _ in range(2):
            give_backlogs_a_turn(stand)
            assert len(stand.sent()) == number
        (task_id,) = open_fires(stand).look([(entry_id, "tick")])[entry_id].tasks
        open_fires(stand).end("tick", task_id)

    assert reasons(stand, entry_id) == []


def test_what_is_superseded_is_cancelled_and_its_queued_tasks_count_no_longer(redis_client: redis.Redis) -> None:
    cancelled, opened = [], OpenFires(redis_client, KEYS)
    superseding = Superseding(open_fires=opened, cancel=lambda _, tasks, reason: cancelled.append((tasks, reason)), wake=lambda: None)
    opened.queue("tick", "queued", kept_ms=60_000)
    opened.begin("tick", "running", kept_ms=60_000)

    superseding.supersede("tick", ("queued", "running"))
    superseding.step()

    assert cancelled == [(("queued", "running"), "superseded by a later fire of tick")]
    assert opened.look([(2, "tick")])[2].tasks == ("running",)


def test_a_store_that_is_away_keeps_no_other_entry_from_its_turn(redis_client: redis.Redis) -> None:
    asked = []

    def cancel(name, tasks, reason):
        asked.append(tasks)
        if len(asked) == 1:
            raise StoreUnavailable("away")

    superseding = Superseding(open_fires=OpenFires(redis_client, KEYS), cancel=cancel, wake=lambda: None)
    superseding.supersede("tick", ("a",))
    superseding.supersede("tock", ("b",))
    superseding.step()

    assert asked == [("a",), ("b",)]


def test_only_what_runs_is_kept_alive(redis_client: redis.Redis) -> None:
    opened = OpenFires(redis_client, KEYS)
    opened.queue("tick", "retry", kept_ms=60_000)
    before = redis_client.hgetall(KEYS.open_fires("tick"))

    opened.keep([("tick", "retry"), ("tick", "ended")], kept_ms=1)

    assert redis_client.hgetall(KEYS.open_fires("tick")) == before


def test_a_count_that_is_none_harms_no_other_entry(stand: Stand) -> None:
    stand.client.set(KEYS.open_fires("broken"), "by hand")
    now_ms = stand.now_ms()
    for name in ("broken", "tick"):
        stand.put(name, period_ms=60_000, mark_ms=now_ms - 60_000, overlap="skip")
    open_fires(stand).begin("tick", "before", kept_ms=60_000)

    stand.lead().run()

    assert stand.sent() == [("broken", now_ms)]
