"""Where there are quorum queues, a task that is not deferred is sent as Celery sends it."""

from typing import Any

import pytest
from celery import Celery
from kombu import Connection, Exchange, Queue

from celery_tw import TimeWheel

TOPICS = Queue("topics", Exchange("news", type="topic"), routing_key="weather", queue_arguments={"x-queue-type": "quorum"})
DIRECT = Queue("direct", Exchange("d", type="direct"), routing_key="key", queue_arguments={"x-queue-type": "quorum"})
PLAIN = Queue("plain", Exchange("p", type="topic"), routing_key="weather")


class Recording:
    """A producer that remembers where the last message went."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.where: tuple[Any, ...] = ()

    def publish(self, body: Any, *, exchange: Any, routing_key: str, declare: Any, **options: Any) -> None:
        self.where = (getattr(exchange, "name", exchange), routing_key, [queue.name for queue in declare or ()])


def sent_by(app: Celery, queue: str, countdown: float) -> tuple[Any, ...]:
    with app.connection_for_write() as connection:
        producer = Recording(connection)
        app.send_task("work", queue=queue, countdown=countdown, producer=producer, ignore_result=True)
        return producer.where


def app_with(*queues: Queue) -> Celery:
    app = Celery("shop", broker="amqp://guest:guest@nowhere.invalid//", set_as_current=False)
    app.conf.update(task_queues=queues, tw_redis_url="redis+socket:///nowhere/redis.sock?virtual_host=0")
    return app


@pytest.mark.parametrize(
    ("queues", "queue", "countdown"),
    [
        ((TOPICS,), "topics", 60.9),
        ((TOPICS,), "topics", 3600),
        ((DIRECT,), "direct", 60),
        ((TOPICS, PLAIN), "plain", 60),
        ((PLAIN,), "plain", 60),
    ],
    ids=str,
)
def test_a_task_that_falls_back_goes_the_way_celery_sends_it(queues: tuple[Queue, ...], queue: str, countdown: float) -> None:
    ours = app_with(*queues)
    TimeWheel(ours)

    seen = sent_by(ours, queue, countdown)

    assert TimeWheel(ours).deferral.fallbacks.counts == {"unavailable": 1}
    assert seen == sent_by(app_with(*queues), queue, countdown)
