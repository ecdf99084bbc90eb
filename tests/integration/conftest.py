"""Fixtures that several seams share; a *leader* is one of the test's own app *shop*."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import celery
import pytest
import redis
from celery import Celery, signals
from kombu import Connection

from celery_tw.integration.node import Node
from tests.closing import close
from tests.integration.fair_shop import Shop


@pytest.fixture
def revoked(shop: Celery) -> Iterator[list[str]]:
    """The ids of the tasks of *shop* that ``task_revoked`` was sent for: a worker that another test left behind sends it as well."""
    heard: list[str] = []

    def receive(sender: Any, request: Any, **facts: Any) -> None:
        if sender.app is shop:
            heard.append(request.id)

    signals.task_revoked.connect(receive)
    yield heard
    signals.task_revoked.disconnect(receive)


@pytest.fixture
def leader(shop: Celery) -> Iterator[Node]:
    """A scheduler that leads and is stepped by hand."""
    node = Node(shop)
    node.elector.step()
    assert node.elector.leads()
    yield node
    node.close()


threads_stand_still = pytest.mark.skipif(
    celery.VERSION[:2] < (5, 6), reason="this Celery's worker with threads takes no further task when it reserves one at a time"
)
"""Seen without the plug-in as well."""


@pytest.fixture(params=["redis", pytest.param("rabbitmq", marks=threads_stand_still)])
def fair_shop(request: pytest.FixtureRequest, redis_url: str, redis_client: redis.Redis) -> Iterator[Shop]:
    """A shop with one fair queue, on each kind of broker."""
    broker_url = redis_url if request.param == "redis" else request.getfixturevalue("rabbitmq_url")
    queue = f"tw-{uuid4().hex}"
    app = Celery("shop", broker=broker_url, set_as_current=False)
    app.conf.update(
        tw_redis_url=redis_url,
        tw_fair_queues=[queue],
        task_default_queue=queue,
        task_ignore_result=True,
        worker_prefetch_multiplier=1,
        broker_heartbeat=10,
        broker_heartbeat_checkrate=20,  # a worker on RabbitMQ looks twice a second whether it is to stop
    )
    yield Shop(app, queue, redis_client)
    close(app)
    if request.param == "rabbitmq":
        with Connection(broker_url) as connection:
            connection.default_channel.queue_delete(queue)
