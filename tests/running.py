"""Running: a server for as long as a block of tests needs it, and no longer than what was sent to it."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from celery_tw.embedded import EmbeddedServer


@contextmanager
def running_server() -> Iterator[EmbeddedServer]:
    """Start a server, and let go of the results of its tasks before it ends.

    A result that is waited for unsubscribes when it is collected, from the connection of the thread that sent its task; collected after
    the server has gone, it would raise where nobody can catch it.
    """
    with EmbeddedServer.start() as server:
        yield server
        gc.collect()
