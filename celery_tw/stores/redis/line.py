"""Line: a connection on which the next script call is sent before the reply to the last one is read.

While Redis works on one batch its caller prepares the next. A call whose connection breaks, or that is dropped, has no answer: it may
have run, as after any time-out.
"""

from collections import deque
from typing import Any

import redis

from celery_tw.errors import StoreUnavailable
from celery_tw.stores.redis.frames import frame_of
from celery_tw.stores.redis.scripts import Argument, RedisClient, script, translated_errors


class Call:
    """A script call under way."""

    def __init__(self, line: "Line", name: str, keys: list[str | bytes], args: list[Argument]) -> None:
        self.line = line
        self.name = name
        self.keys = keys
        self.args = args
        self.answered = False
        self.answer: Any = None
        self.error: Exception | None = None

    def reply(self) -> Any:
        """Return the script's reply; raises what `Script.run` raises."""
        self.line.read_until(self)
        if self.error is not None:
            raise self.error
        return self.answer

    def statuses(self) -> tuple[int, list[str]]:
        """Return Redis time in ms and a status for each entry, as the scripts that take a batch answer."""
        return statuses(self.reply())


def statuses(reply: list[bytes]) -> tuple[int, list[str]]:
    """Return Redis time in ms and a status for each entry of a batch."""
    return int(reply[0]), [status.decode() for status in reply[1:]]


class Line:
    """One connection of *client*'s pool, opened when first needed; for one thread. Replies are read in the order of the calls."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._own: RedisClient = None
        self._under_way: deque[Call] = deque()

    def send(self, name: str, keys: list[str | bytes], args: list[Argument]) -> Call:
        """Send a call of the script *name*; raises `StoreUnavailable`."""
        try:
            with translated_errors(name):
                if self._own is None:
                    self._own = self._client.client()
                connection = self._own.connection
                connection.send_packed_command(frame_of(connection, ("EVALSHA", script(name).digest, len(keys), *keys, *args)))
        except StoreUnavailable:
            self.drop()
            raise
        call = Call(self, name, keys, args)
        self._under_way.append(call)
        return call

    def read_until(self, call: Call) -> None:
        """Read replies until *call* has its own."""
        while not call.answered:
            oldest = self._under_way.popleft()
            try:
                oldest.answer = self._read(oldest)
            except Exception as error:  # it is the caller's of that call
                oldest.error = error
            oldest.answered = True
            if isinstance(oldest.error, StoreUnavailable):
                self.drop()

    def _read(self, call: Call) -> Any:
        with translated_errors(call.name):
            try:
                return self._own.connection.read_response()
            except redis.exceptions.NoScriptError:  # it proves that the script did not run
                return script(call.name).run(self._client, call.keys, call.args)

    def close(self) -> None:
        """Give the connection back; calls still under way are given up with it."""
        if self._under_way:
            self.drop()
        elif self._own is not None:
            self._own.close()
            self._own = None

    def drop(self) -> None:
        """Give up the calls under way, and the connection with them."""
        own, self._own = self._own, None
        if own is not None:
            own.connection.disconnect()
            own.close()
        while self._under_way:
            call = self._under_way.popleft()
            call.answered, call.error = True, StoreUnavailable(f"{call.name}: the connection broke before the answer came")
