"""pytest-celery's setup over local processes.

Its fixtures come with Docker behind them; those that reach for it are overridden here. ``celery_setup`` itself is pytest-celery's own, and
``stage`` is its name with our type. Each test has a server of its own, because most of them hurt it.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from kombu import Connection
from pytest_celery import (
    CeleryBackendCluster,
    CeleryBrokerCluster,
    CeleryTestBackend,
    CeleryTestBroker,
    CeleryWorkerCluster,
)

from celery_tw.embedded import EmbeddedServer
from celery_tw.integration.dags.parts import parts_of
from tests.closing import close
from tests.databases import database_of
from tests.processes.container import ServerContainer
from tests.processes.nodes import Worker
from tests.processes.processes import Processes
from tests.processes.stage import Stage
from tests.processes.works import Works
from tests.processes.yard import Yard
from tests.running import running_server


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    """Show the logs of a failed test's processes."""
    report = yield
    processes = getattr(item, "funcargs", {}).get("processes")
    if report.failed and processes is not None:
        report.sections.append(("logs of the processes", processes.logs()))
    return report


@pytest.fixture
def server(redis_server: EmbeddedServer) -> Iterator[EmbeddedServer]:
    """A server of this test's own. (*redis_server* settles whether there can be one.)"""
    with running_server() as server:
        yield server


@pytest.fixture
def processes(server: EmbeddedServer, tmp_path: Path) -> Iterator[Processes]:
    """What starts ``celery`` commands for this test, and ends them."""
    processes = Processes(tmp_path, url=server.url)
    yield processes
    processes.end()


@pytest.fixture
def celery_broker_cluster(server: EmbeddedServer) -> CeleryBrokerCluster:
    return CeleryBrokerCluster(CeleryTestBroker(ServerContainer("broker", server.url)))


@pytest.fixture
def celery_backend_cluster(server: EmbeddedServer) -> CeleryBackendCluster:
    return CeleryBackendCluster(CeleryTestBackend(ServerContainer("backend", server.url)))


@pytest.fixture
def celery_worker_cluster(processes: Processes) -> CeleryWorkerCluster:
    """One stock worker; it is not waited for, because it comes up while the beats do."""
    return CeleryWorkerCluster(Worker(processes.worker(), None))


@pytest.fixture
def celery_setup_cls() -> type[Stage]:
    return Stage


@pytest.fixture
def stage(celery_setup: Stage, processes: Processes) -> Iterator[Stage]:
    """A server, a worker, and no beat yet."""
    yield celery_setup.on(processes)
    close(celery_setup.app)


@pytest.fixture
def make_yard(processes: Processes) -> Iterator[Callable[..., Yard]]:
    """Make a yard with settings of one's own; its app is closed after the test."""
    yards: list[Yard] = []

    def make(**settings: Any) -> Yard:
        yards.append(Yard(processes, **settings))
        return yards[-1]

    yield make
    for yard in yards:
        close(yard.app)


@pytest.fixture
def on_broker(request: pytest.FixtureRequest, make_yard: Callable[..., Yard], processes: Processes) -> Iterator[Callable[..., Yard]]:
    """Make a yard on "redis" or on "rabbitmq", with its timetable in Redis."""
    queues: list[str] = []

    def make(broker: str, **settings: Any) -> Yard:
        if broker == "redis":
            return make_yard(**settings)
        queues.append(f"yard-{uuid4()}")
        ours = {"broker_url": request.getfixturevalue("rabbitmq_url"), "tw_redis_url": processes.url, "task_default_queue": queues[-1]}
        ours |= {"broker_transport_options": {}, "broker_heartbeat": 10}  # whom it misses loses its messages
        return make_yard(**{**ours, **settings})

    yield make
    if queues:
        with Connection(request.getfixturevalue("rabbitmq_url")) as connection:
            for queue in queues:
                connection.default_channel.queue_delete(queue)


@pytest.fixture(params=["redis", "rabbitmq"])
def yard(request: pytest.FixtureRequest, on_broker: Callable[..., Yard]) -> Yard:
    """A yard on each broker, with a beat that leads."""
    return on_broker(request.param).beat()


@pytest.fixture
def make_works(processes: Processes, tmp_path: Path) -> Iterator[Callable[..., Works]]:
    with ExitStack() as stack:

        def make(kind: str = "sqlite", **settings: Any) -> Works:
            url = stack.enter_context(database_of(kind, tmp_path))
            works = Works(processes, url, **settings)
            stack.callback(lambda: (parts_of(works.app).close(), processes.end(), close(works.app)))
            return works

        yield make
