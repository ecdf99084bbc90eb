"""Real beats before a RabbitMQ: what was due is held against what was received, id by id."""

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery, chain, group
from kombu import Connection

from celery_tw import TimeWheel, once
from celery_tw.embedded import EmbeddedServer
from celery_tw.errors import StoreUnavailable
from celery_tw.testing.checker import check
from celery_tw.testing.ledger import Ledger
from celery_tw.testing.oracles import Window
from celery_tw.testing.rabbit_server import RabbitServer
from tests.closing import close
from tests.processes.container import ProcessContainer
from tests.processes.processes import Processes
from tests.processes.stage import now_ms, schedule_of, spread
from tests.waiting import wait_until

pytestmark = pytest.mark.processes

LEAD_S = 20
RECEIVE_S = 60


@dataclass
class Depot:
    """A timetable in Redis, a queue in RabbitMQ, and beats between them."""

    processes: Processes
    broker_url: str
    queue: str = field(default_factory=lambda: f"tw-{uuid4().hex}")
    received: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.conf = {"broker_url": self.broker_url, "tw_redis_url": self.processes.url, "task_default_queue": self.queue}
        self.app = Celery("shop", set_as_current=False)
        self.app.conf.update(self.conf)
        self.app.task(name="shop.record", shared=False)(_runs_elsewhere)
        self.wheel = TimeWheel(self.app)

    def beat(self, **settings: Any) -> ProcessContainer:
        return self.processes.beat(conf=self.conf, **settings)

    def leading_beat(self, **settings: Any) -> ProcessContainer:
        beat = self.beat(**settings)
        beat.ready()
        wait_until(lambda: self.leader_pid() == beat.pid, LEAD_S, message="the beat to lead")
        return beat

    def leader_pid(self) -> int | None:
        try:
            owner = self.wheel.status().leader
        except StoreUnavailable:
            return None
        return int(owner.split(":")[1]) if owner else None

    def store(self, count: int, *, first_s: float, within_s: float, prefix: str = "task") -> list[str]:
        """Store one-time tasks due within some seconds from *first_s* on; return their names in the order in which they are due."""
        start, step = datetime.now(UTC) + timedelta(seconds=first_s), timedelta(seconds=within_s / count)
        specs = [
            {"name": f"{prefix}-{number}", "signature": self.app.tasks["shop.record"].s(number), "schedule": once(start + number * step)}
            for number in range(count)
        ]
        self.wheel.schedule_many(specs)
        return [spec["name"] for spec in specs]

    def send(self, count: int, *, first_s: float, within_s: float) -> list[str]:
        """Send tasks that are due within some seconds from *first_s* on; return their ids in the order in which they are due."""
        start, step = datetime.now(UTC) + timedelta(seconds=first_s), timedelta(seconds=within_s / count)
        record = self.app.tasks["shop.record"]
        return [record.apply_async((number,), eta=start + number * step).id for number in range(count)]

    def receive(self) -> list[dict[str, Any]]:
        """Take what has come off the queue; return the headers of all messages so far, with their bodies."""
        try:
            with Connection(self.broker_url, connect_timeout=1) as connection:
                channel = connection.default_channel
                while (message := channel.basic_get(self.queue, no_ack=True)) is not None:
                    self.received.append({**message.headers, "body": message.body})
        except (OSError, *connection.channel_errors, *connection.connection_errors):
            return self.received
        return self.received

    def names(self) -> list[str]:
        """Return for which entries something has come, in that order, each once."""
        return list(dict.fromkeys(headers["periodic_task_name"] for headers in self.receive()))

    def ids(self) -> list[str]:
        """Return which tasks have come, in that order, each once."""
        return list(dict.fromkeys(headers["id"] for headers in self.receive()))

    def wait_for_ids(self, ids: list[str]) -> None:
        wait_until(lambda: set(ids) <= set(self.ids()), RECEIVE_S, message=f"{len(ids)} tasks to be received")

    def wait_for(self, names: list[str]) -> None:
        wait_until(lambda: set(names) <= set(self.names()), RECEIVE_S, message=f"{len(names)} tasks to be received")

    def copies(self) -> dict[str, int]:
        """Return the tasks of which more than one message came, by id, having seen that all of each are the same send."""
        counts = Counter(headers["id"] for headers in self.received)
        sends = {(headers.get("periodic_task_name"), headers["tw_mid"], headers["id"], headers["body"]) for headers in self.received}
        assert len(sends) == len(counts), "copies have the same ids and the same body"
        return {task_id: count - 1 for task_id, count in counts.items() if count > 1}

    def close(self) -> None:
        close(self.app)


def _runs_elsewhere(value: int | None = None) -> None:
    """Stand for a task of the project."""


@pytest.fixture
def make_depot(processes: Processes) -> Iterator[Callable[[str], Depot]]:
    depots: list[Depot] = []

    def make(broker_url: str) -> Depot:
        depots.append(Depot(processes, broker_url))
        return depots[-1]

    yield make
    for depot in depots:
        depot.close()


@pytest.fixture
def depot(make_depot: Callable[[str], Depot], rabbitmq_url: str) -> Depot:
    return make_depot(rabbitmq_url)


def test_a_beat_before_rabbitmq_says_which_way_its_fires_go(depot: Depot) -> None:
    beat = depot.leading_beat()
    assert "fire path -> an outbox, published to amqp with confirms" in beat.logs()


def test_each_slot_runs_once_on_a_stock_worker(depot: Depot) -> None:
    grids = spread(10)
    worker = depot.processes.worker(conf=depot.conf)
    depot.leading_beat(schedule=schedule_of(grids))
    worker.ready()
    ledger = Ledger(depot.processes.ledger)
    names = [grid.entry for grid in grids]
    wait_until(lambda: ledger.reaches(names, 1), RECEIVE_S, message="every entry to run")
    from_ms = now_ms()
    wait_until(lambda: ledger.reaches(names, from_ms + 3000), RECEIVE_S, message="every entry to run for three seconds")
    findings = check(ledger.lines(), grids, Window(from_ms, from_ms + 3000))
    assert findings.violations == ()
    assert findings.expected == 30


@pytest.mark.parametrize("place", ["K0", "K1", "K2", "K3", "K4", "K5"])
def test_a_leader_killed_at_any_step_of_the_outbox_loses_nothing(depot: Depot, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TW_FAILPOINT", f"{place}:kill:2")
    first = depot.leading_beat()
    monkeypatch.delenv("TW_FAILPOINT")
    depot.beat().ready()
    due = depot.send(400, first_s=2, within_s=3)

    first.wait(RECEIVE_S)
    depot.wait_for_ids(due)

    assert sorted(depot.ids()) == sorted(due)
    copies = depot.copies()
    assert all(count == 1 for count in copies.values())
    assert not copies or place in ("K3", "K4"), "only what was sent and not struck out goes out again"
    assert copies or place not in ("K4",), "the place was reached with messages under way"
    assert depot.wheel.status().waiting == 0


def test_a_canvas_whose_leader_dies_between_publish_and_record_is_repeated_with_its_own_ids(
    depot: Depot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TW_FAILPOINT", "K4:kill:1")
    first = depot.leading_beat()
    monkeypatch.delenv("TW_FAILPOINT")
    depot.beat().ready()
    record, at = depot.app.tasks["shop.record"], datetime.now(UTC) + timedelta(seconds=2)
    for number in range(10):
        depot.wheel.schedule(f"chain-{number}", chain(record.si(number), record.si(100 + number), app=depot.app), once(at))
        depot.wheel.schedule(f"group-{number}", group([record.si(number), record.si(100 + number)], app=depot.app), once(at))

    first.wait(RECEIVE_S)
    wait_until(lambda: len(depot.ids()) == 30, RECEIVE_S, message="the first task of each chain and both of each group")
    wait_until(lambda: depot.wheel.status().claimed == 0, RECEIVE_S, message="nothing to be left to publish")

    assert len(depot.ids()) == 30
    copies = depot.copies()
    assert copies, "the leader died with messages under way"
    assert all(count == 1 for count in copies.values())


@pytest.mark.parametrize("place", ["K2", "K3", "K4"])
def test_a_leader_that_stood_still_in_the_outbox_and_goes_on_makes_copies_at_most(
    depot: Depot, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TW_FAILPOINT", f"{place}:stop:4")
    first = depot.leading_beat()
    monkeypatch.delenv("TW_FAILPOINT")
    second = depot.beat()
    second.ready()
    names = depot.store(400, first_s=1, within_s=3)

    wait_until(lambda: depot.leader_pid() == second.pid, RECEIVE_S, message="the stand-by to lead")
    depot.wait_for(names)
    first.send(signal.SIGCONT)
    later = depot.store(1, first_s=1, within_s=1, prefix="later")

    depot.wait_for(later)
    copies = depot.copies()
    assert all(count == 1 for count in copies.values())
    assert not copies or place != "K2", "who finds its term over before it publishes does not publish"
    assert first.status == "running"


def test_at_most_once_is_received_or_recorded_and_never_twice(depot: Depot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TW_FAILPOINT", "K3:kill:3")
    first = depot.leading_beat()
    monkeypatch.delenv("TW_FAILPOINT")
    depot.beat().ready()
    start = datetime.now(UTC) + timedelta(seconds=1)
    names = [f"pay-{number}" for number in range(20)]
    record = depot.app.tasks["shop.record"]
    for number, name in enumerate(names):
        depot.wheel.schedule(name, record.s(number), once(start + timedelta(milliseconds=100 * number)), delivery="at_most_once")

    first.wait(RECEIVE_S)

    def skipped() -> set[str]:
        return {name for name in names if _is_skipped(depot.wheel, name)}

    wait_until(lambda: set(names) <= set(depot.names()) | skipped(), RECEIVE_S, message="each to be received or recorded")
    assert depot.copies() == {}
    assert len(skipped()) >= 1


def test_a_countdown_waits_in_the_timetable_and_comes_without_an_eta(depot: Depot) -> None:
    depot.leading_beat()
    before_ms = now_ms()
    result = depot.app.tasks["shop.record"].apply_async((1,), countdown=3, expires=60)
    wait_until(lambda: depot.wheel.status().waiting == 1, RECEIVE_S, message="the task to wait in the timetable")
    assert depot.receive() == []

    (headers,) = wait_until(depot.receive, RECEIVE_S, message="the task in its queue")
    assert (headers["id"], headers["eta"]) == (result.id, None)
    assert headers["tw_eta"] >= before_ms + 2900
    assert headers["expires"]


def test_a_countdown_that_is_revoked_never_comes(depot: Depot) -> None:
    depot.leading_beat()
    record = depot.app.tasks["shop.record"]
    first, second = record.apply_async((1,), countdown=3), record.apply_async((2,), countdown=4)
    wait_until(lambda: depot.wheel.status().waiting == 2, RECEIVE_S, message="both to wait in the timetable")
    depot.wheel.cancel(first.id)

    (headers,) = wait_until(depot.receive, RECEIVE_S, message="the other in its queue")
    assert headers["id"] == second.id


def _is_skipped(wheel: TimeWheel, name: str) -> bool:
    try:
        return any(slot.status == "skipped" for slot in wheel.history(name))
    except LookupError:
        return False


def test_a_broker_killed_under_load_loses_nothing(make_depot: Callable[[str], Depot], rabbit_server: RabbitServer) -> None:
    depot = make_depot(rabbit_server.url)
    depot.leading_beat()
    names = depot.store(2000, first_s=1, within_s=6)
    wait_until(lambda: depot.wheel.status().waiting < 1500, RECEIVE_S, message="a quarter to be fired")

    rabbit_server.kill()
    wait_until(lambda: depot.wheel.status().late > 0, RECEIVE_S, message="something to wait for the broker")
    rabbit_server.start()

    depot.wait_for(names)
    assert all(count == 1 for count in depot.copies().values())
    assert depot.names() == names, "each entry's first message came in order"


def test_a_redis_killed_under_load_loses_nothing(depot: Depot, server: EmbeddedServer) -> None:
    depot.leading_beat()
    names = depot.store(1000, first_s=2, within_s=6)
    wait_until(lambda: depot.wheel.status().waiting < 800, RECEIVE_S, message="a fifth to be fired")
    settled_s = time.monotonic() + 1.5  # the append-only file is written each second

    wait_until(lambda: time.monotonic() > settled_s)
    server.kill()
    server.restart()

    depot.wait_for(names)
    depot.copies()
