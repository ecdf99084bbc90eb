"""Fixtures: one real server for the whole run, emptied before each test that uses it, and apps on it."""

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from celery import Celery

from celery_tw.embedded import EmbeddedServer, find_server
from celery_tw.errors import ServerUnavailable
from celery_tw.testing.rabbit_server import RabbitServer
from tests.closing import close
from tests.requirements import require, why_no_rabbitmq
from tests.running import running_server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[EmbeddedServer]:
    """The server of this test run, with the append-only file on; a test that breaks a server starts its own."""
    require("redis", missing=_why_no_server())
    with running_server() as server:
        yield server


def _why_no_server() -> str | None:
    try:
        find_server()
    except ServerUnavailable as error:
        return str(error)
    return None


@pytest.fixture(scope="session")
def rabbitmq_url() -> Iterator[str]:
    """The URL of a RabbitMQ for this test run; queues have to have names of their own. A test that breaks a broker starts its own."""
    missing = why_no_rabbitmq()
    if missing is not None and _answers(5672):
        yield "amqp://guest:guest@127.0.0.1:5672//"
        return
    require("rabbitmq", missing=missing)
    with RabbitServer() as server:
        yield server.url


@pytest.fixture
def rabbit_server() -> Iterator[RabbitServer]:
    """A RabbitMQ of this test's own, to be killed."""
    require("rabbitmq", missing=why_no_rabbitmq())
    with RabbitServer() as server:
        yield server


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def redis_client(redis_server: EmbeddedServer) -> Iterator[redis.Redis]:
    """A client of an empty server; replies are bytes."""
    with redis_server.client() as client:
        client.flushall()
        yield client


@pytest.fixture
def redis_url(redis_server: EmbeddedServer, redis_client: redis.Redis) -> str:
    """The URL of an empty server."""
    return redis_server.url


@pytest.fixture
def make_app(redis_url: str) -> Iterator[Callable[..., Celery]]:
    """Make Celery apps on the empty server: ``make_app("shop", tw_fire_tolerance=2)``; they are closed after the test."""
    apps: list[Celery] = []

    def make(name: str | None = "shop", **settings: Any) -> Celery:
        app = Celery(name, broker=redis_url, backend=redis_url, set_as_current=False)
        app.conf.update(settings)
        apps.append(app)
        return app

    yield make
    for app in apps:
        close(app)
