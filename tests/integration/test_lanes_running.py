"""Fair queues with a leader and a stock worker, on both kinds of broker: shares, ageing, alarms, boosts."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
import redis
from celery import Celery
from kombu import Connection

from celery_tw import TimeWheel
from celery_tw.core.lane import LANES
from celery_tw.events import task_starving
from celery_tw.integration.node import Node
from celery_tw.stores.redis.election import Election, Led
from celery_tw.stores.redis.keys import Keys
from tests.closing import close
from tests.stock_worker import working
from tests.waiting import wait_until

KEYS = Keys("shop")
HOUR_MS = 3_600_000
TIMEOUT_S = 30


class Shop:
    """An app with one fair queue, and what its tasks noted when they started: the lane that they were sent in, and a word of their own."""

    def __init__(self, app: Celery, queue: str, client: redis.Redis) -> None:
        self.app = app
        self.queue = queue
        self.client = client
        self.starts: list[tuple[str, str]] = []
        self.wheel = TimeWheel(app)

        @app.task(name="note", bind=True, shared=False)
        def note(task: Any, word: str = "") -> None:
            self.starts.append((task.request.tw_lane, word))

        self.note = note

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Lead, and admit nothing."""
        led = Election(self.client, KEYS).acquire("held", lease_ms=60_000)
        assert isinstance(led, Led)
        yield
        self.client.delete(KEYS.leader)

    def store(self, lane: str, count: int, *, word: str = "", age_ms: int = 0) -> None:
        """Let tasks wait in a lane, as if they had done so for *age_ms*."""
        ids = [self.note.apply_async((word,), lane=lane).id for _ in range(count)]
        if age_ms:
            found = [each for task_id in ids for each in self.wheel.lanes._lanes.under_task(self.queue, task_id)]
            self.client.zadd(KEYS.lane(self.queue, lane), {each.entry_id: each.since_ms - age_ms for each in found})

    @contextmanager
    def leading(self) -> Iterator[Node]:
        """Run a scheduler."""
        node = Node(self.app)
        node.start()
        try:
            wait_until(node.elector.leads, message="the scheduler to lead")
            yield node
        finally:
            node.close()

    def fill(self) -> None:
        """Put more into the queue itself than it is to hold, so that nothing is admitted."""
        with self.app.connection_for_write() as connection:
            producer, queue = connection.Producer(), self.app.amqp.queues[self.queue]
            for _ in range(20):
                producer.publish({}, routing_key=self.queue, declare=[queue], retry=False)

    def work(self, starts: int) -> list[tuple[str, str]]:
        """Let a scheduler lead and a worker work until so many tasks have started; return those."""
        with self.leading(), working(self.app, concurrency=1):
            wait_until(lambda: len(self.starts) >= starts, TIMEOUT_S, message=f"{starts} starts")
        return self.starts[:starts]

    def waiting(self) -> list[int]:
        """Return how many tasks wait in each lane, high first."""
        return [crowd.waiting for crowd in self.wheel.lanes._lanes.crowds(self.queue)]


@pytest.fixture(params=["redis", "rabbitmq"])
def shop(request: pytest.FixtureRequest, redis_url: str, redis_client: redis.Redis) -> Iterator[Shop]:
    broker_url = redis_url if request.param == "redis" else request.getfixturevalue("rabbitmq_url")
    queue = f"tw-{uuid4().hex}"
    app = Celery("shop", broker=broker_url, set_as_current=False)
    app.conf.update(
        tw_redis_url=redis_url,
        tw_fair_queues=[queue],
        task_default_queue=queue,
        task_ignore_result=True,
        worker_prefetch_multiplier=1,
        broker_connection_retry_on_startup=True,
    )
    yield Shop(app, queue, redis_client)
    close(app)
    if request.param == "rabbitmq":
        with Connection(broker_url) as connection:
            connection.default_channel.queue_delete(queue)


def lanes_in(starts: list[tuple[str, str]]) -> list[int]:
    """Return how many of *starts* each lane has, high first."""
    counts = Counter(lane for lane, _ in starts)
    return [counts[lane] for lane in LANES]


def test_starts_are_50_30_and_20_of_a_hundred(shop: Shop) -> None:
    with shop.holding():
        for lane in reversed(LANES):
            shop.store(lane, 200)

    starts = shop.work(200)

    assert [abs(count - asked) <= 4 for count, asked in zip(lanes_in(starts), (100, 60, 40), strict=True)] == [True] * 3
    (view,) = shop.wheel.lanes.stats()
    assert view.fair
    for lane in view.lanes:
        assert lane.share is not None
        assert abs(lane.share - lane.asked) <= 2


def test_the_share_of_an_empty_lane_goes_to_the_others(shop: Shop) -> None:
    with shop.holding():
        shop.store("low", 70)
        shop.store("high", 150)

    high, medium, low = lanes_in(shop.work(140))

    assert medium == 0
    assert abs(high - 100) <= 3
    assert abs(low - 40) <= 3


def test_promoted_tasks_go_before_their_lane_and_leave_half_of_the_one_they_join(shop: Shop) -> None:
    with shop.holding():
        shop.store("low", 60, word="old", age_ms=3 * HOUR_MS)
        shop.store("low", 20, word="new")
        shop.store("high", 60, word="new")

    starts = shop.work(60)

    counts = Counter(starts)
    assert counts["low", "old"] >= 15
    assert counts["high", "new"] >= counts["low", "old"] - 1
    assert 8 <= counts["low", "new"] <= 20


def test_a_boosted_task_starts_before_those_that_came_after_it(shop: Shop) -> None:
    with shop.holding():
        shop.store("low", 1, word="boosted", age_ms=1000)
        shop.store("low", 40)
        shop.store("high", 40)
    assert shop.wheel.lanes.boost(lane="low", older_than=0.9) == 1

    starts = shop.work(10)

    assert starts[0] == ("low", "boosted")


def test_each_starving_task_is_told_of_once_whoever_leads(shop: Shop) -> None:
    heard: list[dict[str, Any]] = []

    def hear(sender: Any, signal: Any, **facts: Any) -> None:
        heard.append(facts)

    shop.fill()
    with shop.holding():
        shop.store("low", 25, age_ms=5 * HOUR_MS)
        shop.store("high", 1, age_ms=3 * HOUR_MS)
    task_starving.connect(hear)
    try:
        with shop.leading():
            wait_until(lambda: len(heard) >= 25, message="the alarms")
        with shop.holding():
            shop.store("medium", 1, age_ms=4 * HOUR_MS - 1000)
        with shop.leading():
            wait_until(lambda: len(heard) >= 26, message="one more alarm")
    finally:
        task_starving.disconnect(hear)

    assert Counter((facts["task"], facts["queue"], facts["lane"]) for facts in heard) == {
        ("note", shop.queue, "low"): 25,
        ("note", shop.queue, "medium"): 1,
    }
    assert len({facts["task_id"] for facts in heard}) == 26
    assert min(facts["waited_ms"] for facts in heard) >= 4 * HOUR_MS
    assert [lane.starving for lane in shop.wheel.lanes.stats()[0].lanes] == [0, 1, 25]
