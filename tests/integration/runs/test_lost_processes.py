"""A worker looks after its pool often enough, on the event loop that Celery gives it."""

from collections.abc import Callable
from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from kombu.asynchronous.hub import Hub

from celery_tw import TimeWheel
from celery_tw.integration.runs.lost_processes import NoticeLostProcesses
from tests.waiting import wait_until


class Pool:
    """A pool that counts how often it is asked to look after its processes."""

    looked = 0

    def maintain_pool(self) -> None:
        self.looked += 1


@pytest.fixture
def hub() -> Any:
    hub = Hub()
    yield hub
    hub.close()


def step_on(worker: Any, hub: Hub) -> NoticeLostProcesses:
    step = NoticeLostProcesses(worker)
    step.register_with_event_loop(worker, hub)
    return step


def timers(hub: Hub) -> list[Any]:
    return [event.entry for event in hub.timer.queue if not event.entry.canceled]


def test_every_worker_of_an_app_with_a_time_wheel_does_so(make_app: Callable[..., Celery]) -> None:
    app = make_app()
    TimeWheel(app)
    assert NoticeLostProcesses in app.steps["worker"]


def test_the_pool_is_looked_after_again_and_again(hub: Hub) -> None:
    worker = SimpleNamespace(pool=Pool())
    step_on(worker, hub)
    wait_until(lambda: hub.run_once() or worker.pool.looked >= 2)


def test_after_a_lost_connection_it_is_not_looked_after_twice_as_often(hub: Hub) -> None:
    worker = SimpleNamespace(pool=Pool())
    step = step_on(worker, hub)
    step.register_with_event_loop(worker, hub)
    assert len(timers(hub)) == 1


def test_a_pool_without_processes_is_left_alone(hub: Hub) -> None:
    step_on(SimpleNamespace(pool=object()), hub)
    assert timers(hub) == []


def test_the_next_look_is_half_a_second_away_at_most(hub: Hub) -> None:
    step_on(SimpleNamespace(pool=Pool()), hub)
    (event,) = hub.timer.queue
    assert event.eta - monotonic() <= 0.5
