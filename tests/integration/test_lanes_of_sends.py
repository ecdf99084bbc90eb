"""What becomes of a send to a fair queue in the process that sends it: its lane, and whether it waits there."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from celery import Celery, chain, chord, group
from kombu import Queue

from celery_tw import TimeWheel
from celery_tw.clock import SystemClock
from celery_tw.core.lane import LANES
from celery_tw.embedded import EmbeddedServer
from celery_tw.errors import InvalidLane
from celery_tw.integration.lanes.queue_lengths import queue_lengths
from celery_tw.stores.redis.codec import unpack_one_time
from celery_tw.stores.redis.election import Election, Led
from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.redis.lanes import Lanes
from tests.closing import close
from tests.stock_worker import stock_worker

MakeApp = Callable[..., Celery]
KEYS = Keys("shop")
LEASE_MS = 60_000


def add(*numbers: Any) -> Any:
    return sum(number for number in numbers if isinstance(number, int))


@pytest.fixture
def app(make_app: MakeApp, redis_client: redis.Redis) -> Celery:
    """An app whose queue *celery* is fair, while somebody leads who admits nothing."""
    app = equipped(make_app(tw_fair_queues=["celery"]))
    lead(redis_client)
    return app


def equipped(app: Celery) -> Celery:
    TimeWheel(app)
    app.task(name="add", shared=False)(add)
    app.task(name="urgent", lane="high", shared=False)(add)
    return app


def lead(client: redis.Redis) -> None:
    assert isinstance(Election(client, KEYS).acquire("leader", lease_ms=LEASE_MS), Led)


def lanes_of(client: redis.Redis, queue: str = "celery") -> dict[str, list[dict]]:
    """Return the headers of what waits, by lane."""
    lanes = Lanes(client, KEYS, lease_ms=LEASE_MS, clock=SystemClock())
    waiting = {lane: lanes.page(queue, lane) for lane in LANES}
    return {lane: [json.loads(unpack_one_time(each.record).message)["headers"] for each in found] for lane, found in waiting.items()}


def waiting_lane(client: redis.Redis) -> str:
    """Return the lane of the one task that waits, as its place and its header say."""
    ((lane, (headers,)),) = [(lane, found) for lane, found in lanes_of(client).items() if found]
    assert headers["tw_lane"] == lane
    return lane


def sent_lanes(client: redis.Redis, queue: str = "celery") -> list[str | None]:
    """Return the lanes of the messages in a queue, the oldest first."""
    return [json.loads(message)["headers"].get("tw_lane") for message in reversed(client.lrange(queue, 0, -1))]


# Which lane


def test_a_task_of_which_nothing_is_said_waits_in_medium(app: Celery, redis_client: redis.Redis) -> None:
    app.tasks["add"].delay(1)
    assert waiting_lane(redis_client) == "medium"


@pytest.mark.parametrize("lane", LANES)
def test_the_call_names_the_lane(lane: str, app: Celery, redis_client: redis.Redis) -> None:
    app.tasks["urgent"].apply_async(lane=lane)
    assert waiting_lane(redis_client) == lane


def test_a_call_by_name_names_the_lane(app: Celery, redis_client: redis.Redis) -> None:
    app.send_task("elsewhere", lane="low")
    assert waiting_lane(redis_client) == "low"


def test_a_signature_names_the_lane(app: Celery, redis_client: redis.Redis) -> None:
    app.tasks["add"].s(1).set(lane="low").apply_async()
    assert waiting_lane(redis_client) == "low"


def test_the_task_names_its_lane(app: Celery, redis_client: redis.Redis) -> None:
    app.finalize()
    app.send_task("urgent")
    assert waiting_lane(redis_client) == "high"


@pytest.mark.parametrize(
    "routes", [{"add": {"lane": "low"}}, {"a*": {"lane": "low", "headers": {"x": 1}}}, lambda *_, **__: {"lane": "low"}]
)
def test_a_route_names_the_lane(routes: Any, make_app: MakeApp, redis_client: redis.Redis) -> None:
    app = equipped(make_app(tw_fair_queues=["celery"], task_routes=routes))
    lead(redis_client)

    app.tasks["add"].delay()

    assert waiting_lane(redis_client) == "low"


def test_the_lane_of_a_route_is_no_property_of_the_message_where_no_queue_is_fair(make_app: MakeApp, redis_client: redis.Redis) -> None:
    app = equipped(make_app(task_routes={"add": {"lane": "low"}}))

    app.tasks["add"].delay()

    (message,) = map(json.loads, redis_client.lrange("celery", 0, -1))
    assert message["headers"]["tw_lane"] == "low"
    assert "lane" not in message["properties"]


@pytest.mark.parametrize(("priority", "lane"), [(0, "high"), (5, "medium"), (9, "low")])
def test_a_priority_is_a_lane_and_on_redis_0_is_the_most_urgent(priority: int, lane: str, app: Celery, redis_client: redis.Redis) -> None:
    app.tasks["add"].apply_async(priority=priority)
    assert waiting_lane(redis_client) == lane


def test_a_priority_of_9_is_the_most_urgent_on_rabbitmq(rabbitmq_url: str, redis_url: str, redis_client: redis.Redis) -> None:
    app = equipped(
        Celery(
            "shop", broker=rabbitmq_url, set_as_current=False, tw_redis_url=redis_url, tw_fair_queues=["celery"], task_ignore_result=True
        )
    )
    lead(redis_client)

    app.tasks["add"].apply_async(priority=9)

    assert waiting_lane(redis_client) == "high"
    close(app)


@pytest.mark.parametrize("send", [lambda app: app.tasks["add"].apply_async(lane="urgent"), lambda app: app.send_task("add", lane="hihg")])
def test_a_word_that_is_no_lane_is_refused_with_the_three(send: Any, app: Celery, redis_client: redis.Redis) -> None:
    with pytest.raises(InvalidLane, match="one of 'high', 'medium', 'low'"):
        send(app)
    assert not any(lanes_of(redis_client).values())


def test_a_task_with_a_word_that_is_no_lane_is_refused_when_it_is_sent(app: Celery) -> None:
    app.task(name="wrong", lane="urgent", shared=False)(add)
    with pytest.raises(InvalidLane, match="not 'urgent'"):
        app.tasks["wrong"].delay()


def test_where_no_queue_is_fair_a_named_lane_is_a_header_and_no_other_is(make_app: MakeApp, redis_client: redis.Redis) -> None:
    app = equipped(make_app())
    app.tasks["add"].apply_async(lane="low")
    app.tasks["urgent"].delay()
    app.tasks["add"].delay()
    assert sent_lanes(redis_client) == ["low", "high", None]


def test_an_eager_task_takes_no_notice_of_its_lane(make_app: MakeApp) -> None:
    app = equipped(make_app(task_always_eager=True, tw_fair_queues=["celery"]))
    assert app.tasks["add"].apply_async((1, 2), lane="low").get() == 3


# What keeps its lane


def test_members_of_a_group_and_the_header_of_a_chord_wait_in_the_lane_of_the_call(app: Celery, redis_client: redis.Redis) -> None:
    adding = app.tasks["add"]
    group([adding.s(1), adding.s(2)], app=app).apply_async(lane="low")
    chord([adding.s(1), adding.s(2)], adding.s(), app=app).apply_async(lane="high")

    waiting = lanes_of(redis_client)
    assert [len(waiting[lane]) for lane in LANES] == [2, 0, 2]


@pytest.fixture
def unfair(make_app: MakeApp) -> Celery:
    """An app with a fair queue that nothing goes to, so that what is sent runs at once; tasks return the lanes that they ran in."""
    app = make_app(tw_fair_queues=["other"], worker_prefetch_multiplier=1)
    TimeWheel(app)

    def lanes_so_far(self: Any, before: Any = ()) -> list[str]:
        lists = before if before and isinstance(before[0], list) else [before]
        return [*(lane for lanes in lists for lane in lanes), self.request.tw_lane]

    app.task(name="first", bind=True, shared=False)(lanes_so_far)
    app.task(name="urgent", bind=True, lane="high", shared=False)(lanes_so_far)
    return app


def test_a_chain_goes_on_in_the_lane_of_its_call(unfair: Celery) -> None:
    first, urgent = unfair.tasks["first"], unfair.tasks["urgent"]
    with stock_worker(unfair):
        assert chain(first.s(), urgent.s(), first.s(), app=unfair).apply_async(lane="low").get(timeout=10) == ["low"] * 3
        assert chain(first.s(), urgent.s(), first.s().set(lane="medium"), app=unfair).apply_async(lane="low").get(timeout=10) == [
            "low",
            "low",
            "medium",
        ]


def test_a_part_of_a_canvas_without_a_lane_has_that_of_the_part_before(unfair: Celery) -> None:
    first, urgent = unfair.tasks["first"], unfair.tasks["urgent"]
    with stock_worker(unfair):
        assert chain(urgent.s(), first.s(), app=unfair).apply_async().get(timeout=10) == ["high", "high"]
        assert chord([urgent.s(), urgent.s()], first.s(), app=unfair).apply_async().get(timeout=10) == ["high"] * 3


def test_a_retry_stays_in_its_lane(unfair: Celery) -> None:
    @unfair.task(name="flaky", bind=True, shared=False)
    def flaky(self: Any) -> list[str]:
        if not self.request.retries:
            raise self.retry(countdown=0)
        return [self.request.tw_lane, str(self.request.retries)]

    with stock_worker(unfair):
        assert flaky.apply_async(lane="low").get(timeout=10) == ["low", "1"]


def test_a_retry_of_a_message_without_a_lane_is_medium_whatever_priority_the_broker_stamped(app: Celery, redis_client: redis.Redis) -> None:
    app.tasks["add"].apply_async(priority=0, retries=1)
    assert waiting_lane(redis_client) == "medium"


def test_a_header_with_a_lane_that_there_is_not_says_nothing(app: Celery, redis_client: redis.Redis) -> None:
    app.tasks["add"].apply_async(headers={"tw_lane": "express"})
    assert waiting_lane(redis_client) == "medium"


# Whether it waits


def test_what_finds_room_and_empty_lanes_goes_straight_on_and_what_comes_after_waits(app: Celery, redis_client: redis.Redis) -> None:
    redis_client.set(KEYS.room("celery"), 2)
    for lane in ("low", "high", "medium"):
        app.tasks["add"].apply_async(lane=lane)
    redis_client.set(KEYS.room("celery"), 2)
    app.tasks["add"].apply_async(lane="high")

    assert sent_lanes(redis_client) == ["low", "high"]
    assert [len(waiting) for waiting in lanes_of(redis_client).values()] == [1, 1, 0]


def test_a_task_for_another_queue_is_none_of_it(app: Celery, redis_client: redis.Redis) -> None:
    app.tasks["add"].apply_async(queue="other")
    assert sent_lanes(redis_client, "other") == ["medium"]


def test_a_task_for_a_fair_queue_with_an_exchange_of_its_own_waits(make_app: MakeApp, redis_client: redis.Redis) -> None:
    app = equipped(make_app(tw_fair_queues=["reports"], task_queues=[Queue("reports", routing_key="reports.all")]))
    lead(redis_client)

    app.tasks["add"].apply_async(queue="reports")

    assert [len(waiting) for waiting in lanes_of(redis_client, "reports").values()] == [0, 1, 0]


def test_a_task_that_is_due_soon_waits_with_its_eta(app: Celery, redis_client: redis.Redis) -> None:
    app.tasks["add"].apply_async(countdown=1, lane="low")
    assert lanes_of(redis_client)["low"][0]["eta"] is not None


def test_a_deferred_task_knows_its_lane_when_it_comes_due(app: Celery, redis_client: redis.Redis) -> None:
    app.tasks["add"].apply_async(countdown=60, lane="low")

    (entry,) = redis_client.zrange(KEYS.due, 0, -1)
    (record,) = Lanes(redis_client, KEYS, lease_ms=1, clock=SystemClock()).records.whole([redis_client.get(KEYS.entry(int(entry)))])
    assert record is not None
    assert dict(unpack_one_time(record).extra) == {"task": "add", "lane": "low", "queue": "celery"}


def test_the_check_on_a_chord_does_not_wait(app: Celery, redis_client: redis.Redis) -> None:
    app.send_task("celery.chord_unlock", countdown=1)
    assert not any(lanes_of(redis_client).values())
    assert len(redis_client.lrange("celery", 0, -1)) == 1


def test_without_a_leader_a_task_goes_straight_on_and_is_counted(make_app: MakeApp, redis_client: redis.Redis) -> None:
    app = equipped(make_app(tw_fair_queues=["celery"]))

    app.tasks["add"].apply_async(lane="low")

    assert sent_lanes(redis_client) == ["low"]
    assert TimeWheel(app).deferral.past_lanes.counts == {"leaderless": 1}


@pytest.fixture
def apart() -> Iterator[EmbeddedServer]:
    with EmbeddedServer.start(appendonly=False) as server:
        yield server


def test_with_redis_away_a_task_goes_straight_on_and_is_counted(
    apart: EmbeddedServer, make_app: MakeApp, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    app = equipped(make_app(tw_fair_queues=["celery"], tw_redis_url=apart.url))
    apart.stop()

    for _ in range(3):
        app.tasks["add"].apply_async(lane="low")

    assert sent_lanes(redis_client) == ["low"] * 3
    assert TimeWheel(app).deferral.past_lanes.counts == {"unavailable": 3}
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["add went straight to its queue, past its lane"]


def test_a_queue_whose_key_is_no_list_is_not_measured_and_others_are(app: Celery, redis_client: redis.Redis) -> None:
    redis_client.set("bad", "no list")
    redis_client.lpush("celery", "message")

    lengths = queue_lengths(app, redis_client)

    assert lengths.measure(["bad", "celery", "none"]) == {"celery": 1, "none": 0}


def test_listing_goes_through_all_pages_of_a_lane(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celery_tw.integration.lanes.lanes.PAGE", 2)
    sent = {app.tasks["add"].apply_async(lane="low").id for _ in range(5)}

    assert {task.task_id for task in TimeWheel(app).lanes.list(lane="low")} == sent
    assert TimeWheel(app).lanes.boost(lane="low") == 5
