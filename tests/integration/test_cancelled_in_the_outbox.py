"""A task cancelled when it has been claimed for a broker apart, and not been published yet, ends like any other cancelled task."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery, chord

from celery_tw import TimeWheel
from celery_tw.integration.node import Node
from tests.claiming import claim
from tests.waiting import wait_until


@pytest.fixture
def shop(make_app: Callable[..., Celery], redis_url: str) -> Celery:
    """An app whose broker is this process's memory, its timetable a Redis."""
    settings = {"tw_redis_url": redis_url, "tw_defer_eta": "always", "tw_defer_min_delay": 0, "result_chord_join_timeout": 3}
    app = make_app("shop", broker_url="memory://", task_default_queue=f"tw-{uuid4().hex}", **settings)
    TimeWheel(app)

    @app.task(name="shop.add", shared=False)
    def add(*numbers: Any) -> int:
        return sum(numbers)

    return app


def test_its_result_becomes_revoked_and_it_does_not_go_out(shop: Celery, leader: Node, revoked: list[str]) -> None:
    add = shop.tasks["shop.add"]
    result, other = add.apply_async((1,), countdown=0.2), add.apply_async((2,), countdown=0.2)
    claim(leader, 2)

    assert not TimeWheel(shop).cancel(result.id).found
    leader.duties.outbox.step()

    wait_until(lambda: revoked, message="the cancellation to be announced")
    assert (revoked, result.state, other.state) == ([result.id], "REVOKED", "PENDING")
    with shop.connection_for_read() as connection:
        channel, queue = connection.default_channel, shop.conf.task_default_queue
        assert channel.basic_get(queue, no_ack=True).headers["id"] == other.id
        assert channel.basic_get(queue, no_ack=True) is None


def test_its_chord_fails_instead_of_waiting_for_ever(shop: Celery, leader: Node) -> None:
    add = shop.tasks["shop.add"]
    result = chord([add.s(number).set(countdown=0.2) for number in (1, 2)])(add.s())
    claim(leader, 2)

    for part in result.parent.results:
        TimeWheel(shop).cancel(part.id)
    leader.duties.outbox.step()

    with pytest.raises(Exception, match="revoked"):
        result.get(timeout=10)
