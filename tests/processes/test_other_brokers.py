"""Brokers that are neither the timetable's Redis nor a RabbitMQ: another Redis, and the memory of the scheduler's own process."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import redis
from celery import Celery

from celery_tw import TimeWheel, once
from celery_tw.embedded import EmbeddedServer
from celery_tw.integration.node import Node
from celery_tw.testing.checker import check
from celery_tw.testing.ledger import Ledger
from celery_tw.testing.oracles import Window
from tests.processes.processes import Processes
from tests.processes.stage import now_ms, schedule_of, spread
from tests.running import running_server
from tests.waiting import wait_until

pytestmark = pytest.mark.processes

RUN_S = 60


@pytest.fixture
def other_server(redis_server: EmbeddedServer) -> Iterator[EmbeddedServer]:
    with running_server() as server:
        yield server


def test_each_slot_runs_once_when_the_queues_are_on_another_redis(processes: Processes, other_server: EmbeddedServer) -> None:
    grids = spread(10)
    conf = {"broker_url": other_server.url, "tw_redis_url": processes.url}
    beat = processes.beat(conf=conf, schedule=schedule_of(grids))
    processes.worker(conf=conf).ready()
    ledger = Ledger(processes.ledger)
    names = [grid.entry for grid in grids]
    wait_until(lambda: ledger.reaches(names, 1), RUN_S, message="every entry to run")
    from_ms = now_ms()
    wait_until(lambda: ledger.reaches(names, from_ms + 3000), RUN_S, message="every entry to run for three seconds")
    findings = check(ledger.lines(), grids, Window(from_ms, from_ms + 3000))
    assert findings.violations == ()
    assert "an outbox, published through kombu's redis" in beat.logs()


def test_a_queue_on_another_redis_that_dies_gets_all_when_it_is_back(processes: Processes, other_server: EmbeddedServer) -> None:
    conf = {"broker_url": other_server.url, "tw_redis_url": processes.url}
    processes.beat(conf=conf).ready()
    app = Celery("shop", set_as_current=False)
    app.conf.update(conf)
    app.task(name="shop.record", shared=False)(_runs_elsewhere)
    wheel = TimeWheel(app)
    start = datetime.now(UTC) + timedelta(seconds=1)
    names = [f"task-{number}" for number in range(500)]
    record = app.tasks["shop.record"]
    wheel.schedule_many(
        {"name": name, "signature": record.s(), "schedule": once(start + timedelta(milliseconds=8 * number))}
        for number, name in enumerate(names)
    )
    wait_until(lambda: wheel.status().waiting < 400, RUN_S, message="some to be fired")

    other_server.kill()
    wait_until(lambda: wheel.status().claimed > 0, RUN_S, message="something to wait for the broker")
    other_server.restart()

    def received() -> list[dict]:
        with other_server.client() as client:
            return [json.loads(message)["headers"] for message in reversed(client.lrange("celery", 0, -1))]

    wait_until(lambda: wheel.status().waiting + wheel.status().claimed == 0, RUN_S, message="all to be fired")
    sends = {(headers["periodic_task_name"], headers["tw_mid"]) for headers in received()}
    assert sorted(name for name, _ in sends) == sorted(names), "none is lost, and copies have the same ids"


def _runs_elsewhere() -> None:
    """Stand for a task of the project."""


@pytest.fixture
def node_of() -> Iterator[Callable[[Celery], Node]]:
    nodes: list[Node] = []

    def start(app: Celery) -> Node:
        nodes.append(Node(app))
        nodes[-1].start()
        return nodes[-1]

    yield start
    for node in nodes:
        node.close()


def test_the_memory_transport_gets_its_fires_in_the_schedulers_process(
    make_app: Callable[..., Celery], redis_url: str, node_of: Callable[[Celery], Node]
) -> None:
    queue = f"tw-{uuid4().hex}"
    app = make_app(broker_url="memory://", tw_redis_url=redis_url, task_default_queue=queue)
    app.task(name="shop.record", shared=False)(_runs_elsewhere)
    node = node_of(app)
    TimeWheel(app).schedule("pay", app.tasks["shop.record"].s(), once(datetime.now(UTC) + timedelta(seconds=0.5)))

    with app.connection_for_read() as connection:
        channel = connection.default_channel
        app.amqp.queues[queue](channel).declare()
        message = wait_until(lambda: channel.basic_get(queue, no_ack=True), RUN_S, message="the task in the queue")
    assert message.headers["periodic_task_name"] == "pay"
    node.check()
    wait_until(lambda: TimeWheel(app).status().claimed == 0, RUN_S)


def test_what_waits_for_an_earlier_broker_goes_to_the_present_one(
    make_app: Callable[..., Celery], redis_url: str, redis_client: redis.Redis, node_of: Callable[[Celery], Node]
) -> None:
    before = make_app(broker_url="amqp://127.0.0.1:1//", tw_redis_url=redis_url)
    before.task(name="shop.record", shared=False)(_runs_elsewhere)
    node = node_of(before)
    TimeWheel(before).schedule("pay", before.tasks["shop.record"].s(), once(datetime.now(UTC) + timedelta(seconds=0.5)))
    wait_until(lambda: TimeWheel(before).status().claimed == 1, RUN_S, message="the task to wait for a broker that is away")
    node.close()

    after = make_app(broker_url=redis_url)
    after.task(name="shop.record", shared=False)(_runs_elsewhere)
    node_of(after)
    wait_until(lambda: redis_client.llen("celery"), RUN_S, message="the task in the queue")
    assert TimeWheel(after).status().fire_path == "one script on the Redis broker"
    wait_until(lambda: TimeWheel(after).status().claimed == 0, RUN_S)
