"""Server: fakeredis with our real scripts, under virtual time.

Every call passes `execute`, one at a time, as on a real server; the ledger looks on. fakeredis reads the time with ``time.time`` in several
modules: `virtual_time` gives those a clock of ours, which the server's ``TIME``, its expiries and its stream ids then follow.
"""

import sys
import time as real_time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import fakeredis
import redis
from fakeredis._helpers import SimpleError

from celery_tw.stores.redis.keys import Keys
from tests.sim.ledger import Ledger
from tests.sim.timeline import Strand, Timeline

EPOCH_US = 1_800_000_000_000_000
KEYS = Keys("sim")
NEWS_SEQ = KEYS.news_seq.encode()


class Server:
    """One server; *offset_us* is how far its clock has been set apart."""

    def __init__(self, timeline: Timeline, ledger: Ledger) -> None:
        self.timeline = timeline
        self.ledger = ledger
        self.fake = fakeredis.FakeServer(version=(7,))
        self.offset_us = 0
        self.away = False
        self.stalled_until_us = 0
        self.generation = 0
        self.before_news: Callable[[], None] | None = None
        self._readers: set[Strand] = set()
        self._number: object = ()

    def now_us(self) -> int:
        """Return the server's own time, UTC."""
        return EPOCH_US + self.timeline.now_us + self.offset_us

    def now_ms(self) -> int:
        return self.now_us() // 1000

    @property
    def data(self) -> Any:
        """The database: keys as bytes, each with a ``value``."""
        return self.fake.dbs[0]

    def value(self, key: bytes) -> Any:
        """Return what is stored under *key*, () for nothing; whoever looks on removes nothing that has run out of time."""
        item = self.data._dict.get(key)
        return () if item is None or self.data.expired(item) else item.value

    def expired_keys(self) -> list[bytes]:
        """Return the keys that have run out of time and are still in memory."""
        return [key for key, item in self.data._dict.items() if self.data.expired(item)]

    def execute(self, socket: Any, label: str, host: str, fields: list[bytes]) -> Any:
        """Run one command that came over *socket* and return the reply, an exception for an error."""
        self.data.time = self.now_us() / 1_000_000
        call = self.ledger.before(self, label, host, fields)
        socket._process_command(list(fields))
        call.reply = socket.responses.get_nowait()
        self.ledger.after(self, call)
        self._tell_readers()
        return call.reply

    def error(self, socket: Any, text: str) -> Exception:
        """Return the exception that redis-py makes of the error reply *text*."""
        error: Exception = socket._decode_error(SimpleError(text))
        return error

    def break_connections(self) -> None:
        """Let every open connection be broken when it is used next, and the answers on it be lost."""
        self.generation += 1
        self._wake_readers()

    def wait_for_news(self, us: int) -> None:
        """Let the running strand sleep until the news change, at most *us*."""
        strand = self.timeline.running
        self._readers.add(strand)
        self.timeline.wait(us)
        self._readers.discard(strand)

    def _tell_readers(self) -> None:
        number = self.value(NEWS_SEQ)
        if number == self._number:
            return
        self._number = number
        if self.before_news is not None:
            strike, self.before_news = self.before_news, None
            strike()
        self._wake_readers()

    def _wake_readers(self) -> None:
        """Let them go on in the order of their names: that of a set is another in each process, and a history has to be the same in all."""
        for strand in sorted(self._readers, key=lambda strand: strand.name):
            self.timeline.wake(strand)


class Answers(deque[Any]):
    """Stands in for a socket's queue of answers, which need not wait for each other: everything here is one thread's."""

    put = deque.append
    get_nowait = deque.popleft

    def __bool__(self) -> bool:
        return True  # as a queue is, empty or not


class _Time:
    """Stands in for the module ``time``: a server's time, and the module's other names."""

    def __init__(self) -> None:
        self.server: Server | None = None

    def time(self) -> float:
        assert self.server is not None
        return self.server.now_us() / 1_000_000

    def __getattr__(self, name: str) -> Any:
        return getattr(real_time, name)


_TIME = _Time()


@contextmanager
def virtual_time(server: Server) -> Iterator[None]:
    """Let fakeredis live in the time of *server* meanwhile."""
    loaded = [module for name, module in sys.modules.items() if name.startswith("fakeredis")]
    modules = [module for module in loaded if getattr(module, "time", None) is real_time]
    _TIME.server = server
    for module in modules:
        module.time = _TIME  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for module in modules:
            module.time = real_time  # type: ignore[attr-defined]


def refused_connection() -> Exception:
    """Return the error of a server that is away."""
    return redis.exceptions.ConnectionError("Error 111 connecting to sim:1. Connection refused.")
