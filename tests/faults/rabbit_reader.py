"""RabbitReader: takes what comes off a queue of RabbitMQ, and notes it."""

import threading
import time
from collections.abc import Callable
from typing import Any

from kombu import Connection

from celery_tw.testing.ledger import Ledger
from tests.faults.queue_reader import EVERY_S, note_last, received

DRAIN_S = 0.2


class RabbitReader:
    """Writes a ``received`` line to *ledger* for each message that comes to *queue*, until `stop`.

    While it is *held* it takes nothing: a message that is under way to it when its broker dies would be nobody's.
    """

    def __init__(self, ledger: Ledger, url: str, queue: str, *, now_ms: Callable[[], int]) -> None:
        self.ledger = ledger
        self.url = url
        self.queue = queue
        self.now_ms = now_ms
        self.last_ms: dict[str, int] = {}
        self.held = threading.Event()
        self.idle = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def hold(self) -> None:
        """Take nothing from now on; return when nothing is under way."""
        self.idle.clear()
        self.held.set()
        assert self.idle.wait(30), "the reader is stuck"

    def go_on(self) -> None:
        self.held.clear()

    def stop(self) -> None:
        self._stopped = True
        if self._thread.ident is not None:
            self._thread.join(10)

    def _run(self) -> None:
        while not self._stopped:
            connection = Connection(self.url, connect_timeout=1)
            try:
                with connection:
                    self._follow(connection)
            except (OSError, *connection.channel_errors, *connection.connection_errors):  # also while there is no such queue yet
                time.sleep(EVERY_S)

    def _follow(self, connection: Any) -> None:
        while not self._stopped:
            if self.held.is_set():
                self.idle.set()
                time.sleep(EVERY_S)
                continue
            channel = connection.channel()
            tag = channel.basic_consume(self.queue, no_ack=True, callback=self._note)
            while not (self._stopped or self.held.is_set()):
                _drain(connection)
            channel.basic_cancel(tag)
            while _drain(connection):
                continue

    def _note(self, message: Any) -> None:
        line = received(message.headers, self.now_ms())
        self.ledger.append(line)
        note_last(self.last_ms, [line])


def _drain(connection: Any) -> bool:
    """Let what has come be noted; return whether anything had."""
    try:
        connection.drain_events(timeout=DRAIN_S)
    except TimeoutError:
        return False
    return True
