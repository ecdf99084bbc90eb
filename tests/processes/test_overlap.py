"""Entries that may not overlap, with real beats and workers: what ran beside what, on a broker of the timetable and on one apart."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from celery.result import AsyncResult

from celery_tw import TimeWheel
from tests.closing import close
from tests.processes.container import ProcessContainer
from tests.processes.processes import Processes
from tests.waiting import wait_until

pytestmark = pytest.mark.processes

TIMEOUT_S = 40
CONF = {"tw_heartbeat_interval": 0.5, "tw_heartbeat_timeout": 3, "worker_prefetch_multiplier": 1}


class Site:
    """A beat with one entry, each second, and a worker of four processes."""

    def __init__(self, processes: Processes, conf: dict[str, Any]) -> None:
        self.processes = processes
        self.conf = {**CONF, **conf}
        self.notes = Path(f"{processes.ledger}.overlapping")
        self.app = Celery("shop", broker=processes.url, backend=processes.url, set_as_current=False)
        self.app.conf.update(self.conf)
        self.wheel = TimeWheel(self.app)

    def open(self, overlap: str, *, task: str = "shop.plain", args: tuple[Any, ...] = (2.5,)) -> "Site":
        schedule = {"work": {"task": task, "schedule": 1.0, "args": args, "options": {"tw": {"overlap": overlap}}}}
        self.processes.beat(module="overlapping", conf=self.conf, schedule=schedule)
        self.worker()
        return self

    def worker(self) -> ProcessContainer:
        worker = self.processes.worker("-c", "4", pool="prefork", module="overlapping", conf=self.conf)
        worker.ready()
        return worker

    def lines(self) -> list[tuple[str, str]]:
        """Return what was noted, in order: "begins" or "ends", and the id of the task."""
        text = self.notes.read_text() if self.notes.exists() else ""
        return [(what, task_id) for what, task_id in map(str.split, text.splitlines())]

    def begun(self) -> list[str]:
        return [task_id for what, task_id in self.lines() if what == "begins"]

    def wait_for_begun(self, number: int) -> None:
        wait_until(lambda: len(self.begun()) >= number, TIMEOUT_S, message=f"{number} tasks to begin")

    def most_at_a_time(self) -> int:
        """Return how many tasks ran beside each other at most."""
        running, most = 0, 0
        for what, _ in self.lines():
            running += 1 if what == "begins" else -1
            most = max(most, running)
        return most

    def skipped(self) -> set[str]:
        return {slot.reason for slot in self.wheel.history("work") if slot.status == "skipped"}


@pytest.fixture
def make_site(processes: Processes) -> Iterator[Callable[..., Site]]:
    sites: list[Site] = []

    def make(**conf: Any) -> Site:
        sites.append(Site(processes, conf))
        return sites[-1]

    yield make
    for site in sites:
        close(site.app)


@pytest.fixture(params=["redis", "rabbitmq"])
def site(request: pytest.FixtureRequest, make_site: Callable[..., Site], processes: Processes) -> Site:
    if request.param == "redis":
        return make_site()
    url = request.getfixturevalue("rabbitmq_url")
    return make_site(broker_url=url, tw_redis_url=processes.url, task_default_queue=f"tw-{uuid4().hex}")


@pytest.mark.parametrize("overlap", ["skip", "buffer_one"])
def test_no_fire_runs_beside_another_and_what_was_not_fired_is_on_record(site: Site, overlap: str) -> None:
    site.open(overlap)
    site.wait_for_begun(3)

    assert site.most_at_a_time() == 1
    assert site.skipped() == {f"overlap:{overlap}"}


@pytest.mark.long
def test_with_allow_fires_run_beside_each_other(make_site: Callable[..., Site]) -> None:
    site = make_site().open("allow")
    site.wait_for_begun(3)

    assert site.most_at_a_time() > 1


def test_a_long_task_stops_for_the_next_fire_of_its_entry(site: Site) -> None:
    site.open("cancel_previous", task="shop.endless", args=())
    site.wait_for_begun(3)

    first = AsyncResult(site.begun()[0], app=site.app)
    wait_until(lambda: first.state == "REVOKED", TIMEOUT_S, message="the first to be revoked")
    assert "superseded by a later fire of work" in str(first.info)


@pytest.mark.long
def test_a_killed_worker_holds_up_its_entry_only_until_its_fire_lapses(make_site: Callable[..., Site]) -> None:
    site = make_site().open("skip", args=(3600,))
    site.wait_for_begun(1)
    worker = site.processes.all[-1]

    os.killpg(worker.pid, signal.SIGKILL)
    site.worker()

    site.wait_for_begun(2)
