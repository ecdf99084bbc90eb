"""Own connections: script calls on one connection for each thread, without the bookkeeping of a pool.

A worker asks Redis three times for each task, from the same one or two threads. The pool, its retries and its measurements take two thirds
of the processor time of such a call. What goes wrong is told as the pool's client tells it; a call that was interrupted, by a soft time
limit as well, ends its connection, for the next reply on it would be that call's.
"""

import threading
from typing import Any

from redis.exceptions import ConnectionError as NotConnected
from redis.exceptions import ResponseError

from celery_tw.stores.redis.scripts import Argument, RedisClient


class OwnConnections:
    """Runs scripts as a *client* does; made anew after a fork, as clients are."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._here = threading.local()

    def evalsha(self, digest: str, number_of_keys: int, *keys_and_args: Argument) -> Any:
        """Run the script *digest* and return its reply; raises what the client raises."""
        connection = self._connection()
        try:
            connection.send_command("EVALSHA", digest, number_of_keys, *keys_and_args)
            return connection.read_response()
        except ResponseError:
            raise
        except BaseException:
            connection.disconnect()
            raise

    def script_load(self, text: str) -> Any:
        """Let the server know a script."""
        return self._client.script_load(text)

    def _connection(self) -> Any:
        """Return the connection of this thread, opened again when the server has closed it meanwhile."""
        own = getattr(self._here, "client", None)
        if own is None:
            own = self._here.client = self._client.client()
        connection = own.connection
        if connection._sock is not None and _has_ended(connection):
            connection.disconnect()
        return connection


def _has_ended(connection: Any) -> bool:
    """Return whether the server has closed the connection, or said what nobody asked for: newer clients raise in the first case."""
    try:
        return bool(connection.can_read())
    except NotConnected:
        return True
