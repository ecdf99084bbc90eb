"""Own connections: script calls on connections of their own, without the bookkeeping of a pool.

A worker asks Redis three times for each task. The pool, its retries and its measurements take two thirds of the processor time of such a
call. What goes wrong is told as the pool's client tells it; a call that was interrupted, by a soft time limit as well, ends its connection,
for the next reply on it would be that call's.
"""

import select
from typing import Any

from redis.exceptions import ConnectionError as NotConnected
from redis.exceptions import ResponseError

from celery_tw.stores.redis.frames import frame_of
from celery_tw.stores.redis.scripts import Argument, RedisClient

MOST_IDLE = 10
"""More are there only while more tasks end at once: a pool of connections is bounded, and others need some of it."""


class OwnConnection:
    """One connection of *client*'s pool."""

    def __init__(self, client: RedisClient) -> None:
        self._owner = client.client()
        self.connection = self._owner.connection
        self._watched: Any = None
        self._poller: Any = None

    def send(self, digest: str, number_of_keys: int, keys_and_args: tuple[Argument, ...]) -> None:
        """Send a script call, over a new connection when the server has closed this one meanwhile."""
        connection = self.connection
        if connection._sock is not None and self._has_ended():
            connection.disconnect()
        frame = frame_of(connection, ("EVALSHA", digest, number_of_keys, *keys_and_args))
        connection.send_packed_command(frame, check_health=False)

    def give_back(self) -> None:
        """End the connection, and let the pool have it."""
        self.connection.disconnect()
        self._owner.close()

    def _has_ended(self) -> bool:
        """Return whether the server has closed the connection, or said what nobody asked for.

        Newer clients raise in the first case, and make a poll for each look; some systems, and eventlet, have none.
        """
        if not hasattr(select, "poll"):
            try:
                return bool(self.connection.can_read())
            except NotConnected:
                return True
        if self.connection._sock is not self._watched:
            self._watched, self._poller = self.connection._sock, select.poll()
            self._poller.register(self._watched, select.POLLIN)
        return bool(self._poller.poll(0))


class OwnConnections:
    """Runs scripts as a *client* does, each call on a connection that no other has just then; made anew after a fork, as clients are."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._idle: list[OwnConnection] = []

    def evalsha(self, digest: str, number_of_keys: int, *keys_and_args: Argument) -> Any:
        """Run the script *digest* and return its reply; raises what the client raises.

        A connection on which anything went wrong is given back: the pool's next one may lead to another server.
        """
        own = self._take()
        try:
            own.send(digest, number_of_keys, keys_and_args)
            reply = own.connection.read_response()
        except ResponseError:
            self._keep(own)
            raise
        except BaseException:
            own.give_back()
            raise
        self._keep(own)
        return reply

    def script_load(self, text: str) -> Any:
        """Let the server know a script."""
        return self._client.script_load(text)

    def _take(self) -> OwnConnection:
        """Return an idle connection, or a new one."""
        try:
            return self._idle.pop()
        except IndexError:
            return OwnConnection(self._client)

    def _keep(self, own: OwnConnection) -> None:
        if len(self._idle) < MOST_IDLE:
            self._idle.append(own)
        else:
            own.give_back()
