"""Failover: a connection pool over the servers of a list URL, of which the first that answers is used.

Celery takes ``redis://a;redis://b`` and goes round it when a server is gone. This pool does the same where it matters, when a connection is
made: a server that does not answer is passed over for the next, once round, and the one that answered is kept. A command is never
sent a second time here.
"""

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from redis import ConnectionPool
from redis.exceptions import ConnectionError, TimeoutError  # noqa: A004


class FailoverPool:
    """Stands for the pool of the server in use, among *pools*; it is all of a pool that ``redis.Redis`` asks for."""

    def __init__(self, pools: Sequence[ConnectionPool]) -> None:
        self._pools = list(pools)
        self._current = 0
        self._owners: WeakKeyDictionary[Any, ConnectionPool] = WeakKeyDictionary()

    def get_connection(self, *args: Any, **options: Any) -> Any:
        """Return a live connection to the first server that answers, beginning with the one in use."""
        for attempts_left in reversed(range(len(self._pools))):
            pool = self._pools[self._current]
            try:
                connection = pool.get_connection(*args, **options)
            except (ConnectionError, TimeoutError):
                self._pass_over(pool)
                if not attempts_left:
                    raise
            else:
                self._owners[connection] = pool
                return connection
        raise ConnectionError("no server is listed")

    def release(self, connection: Any) -> None:
        """Give *connection* back to the pool it came from."""
        self._owners[connection].release(connection)

    def disconnect(self, *args: Any, **options: Any) -> None:
        """Disconnect from all servers."""
        for pool in self._pools:
            pool.disconnect(*args, **options)

    def close(self) -> None:
        """Disconnect from all servers."""
        self.disconnect()

    def _pass_over(self, pool: ConnectionPool) -> None:
        if self._pools[self._current] is pool:
            self._current = (self._current + 1) % len(self._pools)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pools[self._current], name)
