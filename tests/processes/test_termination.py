"""Runs that were cancelled and do not stop are ended, with real workers: their result, their chord, and who waits for their lock."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chord
from celery.exceptions import ChordError, TaskRevokedError
from celery.result import AsyncResult

import celery_tw
from celery_tw import TimeWheel
from tests.closing import close
from tests.processes.processes import Processes
from tests.waiting import wait_until

pytestmark = pytest.mark.processes

TIMEOUT_S = 40
CONF = {"worker_prefetch_multiplier": 1, "tw_lock_timeout": 300}


class Site:
    """A beat that leads, and a worker."""

    def __init__(self, processes: Processes, *, pool: str) -> None:
        self.notes = Path(f"{processes.ledger}.stubborn")
        self.app = Celery("shop", broker=processes.url, backend=processes.url, set_as_current=False)
        self.app.conf.update(CONF)
        self.wheel = TimeWheel(self.app)
        self.beat = processes.beat(module="stubborn", conf=CONF)
        self.worker = processes.worker("-c", "2", pool=pool, module="stubborn", conf=CONF)
        self.worker.ready()
        wait_until(lambda: self.wheel.status().leader, TIMEOUT_S, message="the beat to lead")

    def task(self, name: str) -> Any:
        return self.app.signature(f"shop.{name}")

    def told(self) -> list[str]:
        return self.notes.read_text().splitlines() if self.notes.exists() else []

    def wait_for(self, what: str) -> None:
        wait_until(lambda: what in self.told(), TIMEOUT_S, message=f"{what!r} to be noted")

    def wait_until_freed(self, result: AsyncResult, match: str) -> None:
        """Wait until the result is REVOKED for that reason, and the lock of the run is another's."""
        with pytest.raises(TaskRevokedError, match=match):
            result.get(timeout=TIMEOUT_S)
        assert self.task("next").apply_async().get(timeout=TIMEOUT_S) == "next"


def _runs_elsewhere() -> None:
    """Stand for a task of the project, whose options a client knows too."""


@pytest.fixture
def make_site(processes: Processes) -> Iterator[Callable[..., Site]]:
    sites: list[Site] = []

    def make(pool: str = "prefork") -> Site:
        sites.append(Site(processes, pool=pool))
        return sites[-1]

    yield make
    for site in sites:
        close(site.app)


def test_a_run_that_does_not_stop_in_time_is_ended_and_its_lock_freed(make_site: Callable[..., Site]) -> None:
    site = make_site()
    result = site.task("deaf").apply_async()
    site.wait_for("deaf begins")

    cancelled = site.wheel.cancel(result.id, reason="out of patience", terminate_after=0.5)

    assert (cancelled.stopping, cancelled.terminate_after) == (True, 0.5)
    site.wait_until_freed(result, "out of patience")
    site.wait_for("deaf cleans up")
    assert site.told().count("deaf begins") == 1


@pytest.mark.long
def test_a_process_that_does_not_end_is_killed_and_the_tasks_own_grace_holds(make_site: Callable[..., Site]) -> None:
    site = make_site()
    site.app.task(name="shop.impolite", base=celery_tw.Task, shared=False, cancel_grace=0.5)(_runs_elsewhere)
    result = site.task("impolite").apply_async()
    site.wait_for("impolite begins")

    assert site.wheel.cancel(result.id, reason="enough").terminate_after == 0.5

    site.wait_until_freed(result, "enough")
    site.wait_for("impolite goes on")
    wait_until(lambda: "does not end and is killed" in site.worker.logs(), TIMEOUT_S)
    wait_until(lambda: site.told().count("impolite begins") == 1 and site.wheel.runs.under_way() == [], TIMEOUT_S)
    assert result.state == "REVOKED"


@pytest.mark.long
def test_a_chord_hears_of_a_part_that_was_ended(make_site: Callable[..., Site]) -> None:
    site = make_site()
    body = chord([site.task("deaf"), site.task("collect").clone([[]])], app=site.app)(site.task("collect"))
    site.wait_for("deaf begins")
    (run,) = site.wheel.runs.under_way()

    site.wheel.cancel(run.task_id, terminate_after=0)

    with pytest.raises((ChordError, TaskRevokedError)):
        body.get(timeout=TIMEOUT_S)


@pytest.mark.long
def test_threads_cannot_be_ended_and_the_log_says_so(make_site: Callable[..., Site]) -> None:
    site = make_site("threads")
    result = site.task("deaf").apply_async()
    site.wait_for("deaf begins")

    site.wheel.cancel(result.id, terminate_after=0)

    wait_until(lambda: "could not be ended" in site.beat.logs(), TIMEOUT_S)
    assert site.told() == ["deaf begins"]
