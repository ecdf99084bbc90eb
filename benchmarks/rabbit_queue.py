"""Rabbit queue: a RabbitMQ queue seen from outside: how it fills, and what is in it at the end."""

import json
import time
from dataclasses import dataclass

from kombu import Connection

from benchmarks.queue_watch import Filling

LOOK_S = 0.005


@dataclass(frozen=True, slots=True)
class Received:
    """A message: its task's argument, and the id of its send."""

    number: int
    mid: str


def declare(url: str, queue: str) -> None:
    """Declare a durable queue as Celery does."""
    with Connection(url) as connection:
        connection.default_channel.queue_declare(queue, durable=True, auto_delete=False)


def watch_filling(url: str, queue: str, *, total: int, patience_s: float) -> Filling:
    """Return how *queue* filled up to *total*: from the last look that saw it empty to the first that saw everything."""
    with Connection(url) as connection:
        channel = connection.default_channel
        started_s = start_s = end_s = time.time()
        count = 0
        while count < total and end_s - started_s < patience_s:
            looked_s, count = end_s, channel.queue_declare(queue, passive=True).message_count
            end_s = time.time()
            if count == 0:
                start_s = looked_s
            time.sleep(LOOK_S)
        return Filling(count, start_s, end_s)


def take_all(url: str, queue: str) -> list[Received]:
    """Take all messages out of *queue*, in order."""
    received: list[Received] = []
    with Connection(url) as connection:
        channel = connection.default_channel
        while (message := channel.basic_get(queue, no_ack=True)) is not None:
            received.append(Received(json.loads(message.body)[0][0], message.headers.get("tw_mid") or message.headers["id"]))
    return received
