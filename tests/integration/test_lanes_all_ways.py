"""Whatever comes to a fair queue by way of the time wheel waits in its lane, and what waits there can be taken out again."""

import json
from datetime import UTC, datetime, timedelta

import pytest
import redis
from celery import Celery

from celery_tw import TimeWheel, every, once
from celery_tw.core.lane import LANES
from celery_tw.integration.runs.received import record_rest
from celery_tw.stores.redis.codec import unpack_one_time
from celery_tw.stores.redis.envelope import Envelope, write_envelope
from tests.closing import close
from tests.integration.fair_shop import TIMEOUT_S, Shop
from tests.stock_worker import runs_tasks_with_an_eta
from tests.waiting import wait_until


def wait_in(shop: Shop, lane: str, *, count: int = 1) -> None:
    """Wait until so many tasks wait in *lane*."""
    wait_until(lambda: shop.waiting()[LANES.index(lane)] >= count, TIMEOUT_S, message=f"{count} to wait in {lane}")


def test_a_task_with_an_eta_waits_in_its_lane_when_it_is_due(fair_shop: Shop) -> None:
    fair_shop.fill()
    with fair_shop.leading():
        fair_shop.note.apply_async(countdown=2.1, lane="low")
        wait_in(fair_shop, "low")


def test_the_fires_of_an_entry_wait_in_its_lane(fair_shop: Shop) -> None:
    fair_shop.fill()
    with fair_shop.leading():
        fair_shop.wheel.schedule("tick", fair_shop.note.s("tick"), every(1), lane="high")
        fair_shop.wheel.schedule("later", fair_shop.note.s("later"), once(datetime.now(UTC) + timedelta(seconds=1)), lane="low")
        wait_in(fair_shop, "high", count=2)
        wait_in(fair_shop, "low")
        fair_shop.wheel.remove("tick")
        before = fair_shop.waiting()
        fair_shop.wheel.schedule("daily", fair_shop.note.s(), every(days=1), lane="medium")
        fair_shop.wheel.trigger("daily")
        wait_in(fair_shop, "medium")
    assert before[1] == 0


def test_they_run_when_there_is_room(fair_shop: Shop) -> None:
    fair_shop.wheel.schedule("tick", fair_shop.note.s("tick"), every(1), lane="high")
    with fair_shop.leading(), fair_shop.working():
        fair_shop.note.apply_async(("eta",), countdown=2.1, lane="low")
        wait_until(lambda: {("high", "tick"), ("low", "eta")} <= set(fair_shop.starts), TIMEOUT_S, message="both to run")


def test_a_task_that_waits_in_a_lane_can_be_cancelled_and_revoked(fair_shop: Shop) -> None:
    with fair_shop.holding():
        cancelled, revoked = (fair_shop.note.apply_async(("no",), lane="low") for _ in range(2))
        fair_shop.store("low", 1, word="yes")
        assert fair_shop.wheel.cancel(cancelled.id).found
        revoked.revoke()
        assert fair_shop.waiting() == [0, 0, 1]

    assert fair_shop.work(1) == [("low", "yes")]


@runs_tasks_with_an_eta
def test_what_waits_in_lanes_is_ejected_too(fair_shop: Shop) -> None:
    with fair_shop.holding():
        for lane in LANES:
            fair_shop.store(lane, 2, word=lane)
        assert fair_shop.wheel.eject().ejected == 6
        assert fair_shop.waiting() == [0, 0, 0]

    with fair_shop.working():
        wait_until(lambda: len(fair_shop.starts) == 6, TIMEOUT_S, message="all to run")


def test_a_queue_that_is_fair_no_more_is_emptied(fair_shop: Shop, redis_client: redis.Redis) -> None:
    with fair_shop.holding():
        for lane in LANES:
            fair_shop.store(lane, 20, word=lane)
    settings = (
        "tw_redis_url",
        "task_default_queue",
        "task_ignore_result",
        "worker_prefetch_multiplier",
        "broker_heartbeat",
        "broker_heartbeat_checkrate",
    )
    app = Celery("shop", broker=fair_shop.app.conf.broker_url, set_as_current=False)
    app.conf.update({name: fair_shop.app.conf[name] for name in settings})
    later = Shop(app, fair_shop.queue, redis_client)
    later.note.apply_async(("straight",), lane="low")

    starts = later.work(61)

    assert len(starts) == 61
    assert later.waiting() == [0, 0, 0]
    close(app)


def test_a_queue_without_workers_is_told_of_in_the_status(fair_shop: Shop) -> None:
    with fair_shop.holding():
        fair_shop.store("low", 3)
        (queue,) = fair_shop.wheel.status().lanes
        assert (queue.waiting, queue.unconsumed) == (3, True)

    with fair_shop.leading(), fair_shop.working(concurrency=2):
        wait_until(lambda: fair_shop.wheel.status().lanes[0].capacity == 2, TIMEOUT_S, message="the worker to say what it consumes")


@pytest.mark.parametrize(("header", "lane"), [("low", "low"), (None, "medium"), ("strange", "medium")])
def test_a_message_that_a_worker_gives_back_goes_through_its_lane(header: str | None, lane: str) -> None:
    envelope = Envelope(
        body=b"[[], {}, {}]",
        content_type="application/json",
        content_encoding="utf-8",
        headers={"task": "note", "id": "t"} if header is None else {"task": "note", "id": "t", "tw_lane": header},
        properties={},
        exchange="",
        routing_key="work",
        declare=("work",),
    )
    rest = record_rest(write_envelope(envelope), fair=frozenset({"work"}))

    extra = unpack_one_time(b"1\nm\n0\n" + rest).extra

    assert dict(extra) == {"task": "note", "lane": lane, "queue": "work"}
    assert "lane" not in unpack_one_time(b"1\nm\n0\n" + record_rest(write_envelope(envelope))).extra


def test_the_record_of_a_lane_is_short(fair_shop: Shop) -> None:
    """What tasks of one lane have in common is in their template, so that a record holds their own values alone."""
    with fair_shop.holding():
        fair_shop.store("low", 2)
    keys = TimeWheel(fair_shop.app)._parts.keys
    first, second = (fair_shop.client.get(key) for key in fair_shop.client.scan_iter(f"{keys.tag}:entry:*"))

    assert b"tw_lane" not in first + second
    assert len(fair_shop.client.hkeys(keys.templates)) == 1
    assert json.dumps(fair_shop.queue).encode() not in first + second
