"""QueueReader: notes what stands in the queue, in place of a worker, and takes nothing off it.

A worker that dies with a message in hand, or whose server does, loses it or gets it twice; that is not in question here. Messages come in
at the head, so what is new are those before the number that is known, as long as the last of these is where it was. A server that comes
back with an older state has lost some; what comes in their place is noted as it comes.
"""

import json
import threading
import time
from collections.abc import Callable, Iterable

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from celery_tw.testing.ledger import Ledger, Line, What

EVERY_S = 0.01


class QueueReader:
    """Writes a ``received`` line to *ledger* for each message in *queue* on the server that *connect* leads to, until `stop`.

    *last_ms* is the last slot that was seen of each entry; the moment, where a message names none.
    """

    def __init__(self, ledger: Ledger, connect: Callable[..., redis.Redis], *, now_ms: Callable[[], int], queue: str = "celery") -> None:
        self.ledger = ledger
        self.connect = connect
        self.now_ms = now_ms
        self.queue = queue
        self.last_ms: dict[str, int] = {}
        self._seen: list[int] = []
        self._stopped = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Look once more, and end."""
        self._stopped = True
        if self._thread.ident is not None:
            self._thread.join(10)

    def _run(self) -> None:
        while not self._stopped:
            try:
                with self.connect(retry=Retry(NoBackoff(), 0)) as client:
                    while not self._stopped:
                        self._look(client)
                        time.sleep(EVERY_S)
                    self._look(client)
            except (redis.ConnectionError, redis.TimeoutError, redis.ResponseError, OSError):
                time.sleep(EVERY_S)

    def _look(self, client: redis.Redis) -> None:
        known = len(self._seen)
        last, new = client.pipeline(transaction=False).lindex(self.queue, -known).lrange(self.queue, 0, -(known + 1)).execute()
        at_ms = self.now_ms()  # no transaction: a server whose memory is full refuses one
        if known and (last is None or hash(last) != self._seen[-1]):
            new = self._go_back(client.lrange(self.queue, 0, -1))
        if new:
            self._seen += [hash(message) for message in reversed(new)]
            lines = [received(json.loads(message)["headers"], at_ms) for message in reversed(new)]
            self.ledger.append(*lines)
            note_last(self.last_ms, lines)

    def _go_back(self, present: list[bytes]) -> list[bytes]:
        """Forget what stands no more in the queue; return what is new in what is *present*, newest first."""
        common = 0
        for message, seen in zip(reversed(present), self._seen, strict=False):
            if hash(message) != seen:
                break
            common += 1
        del self._seen[common:]
        return present[: len(present) - common]


def received(headers: dict, at_ms: int) -> Line:
    """Return the line for a message with these headers; where they do not name an entry, its shadow name has to."""
    slot_ms = headers.get("tw_slot") or headers.get("tw_eta")
    return Line(
        what=What.RECEIVED,
        at_ms=at_ms,
        entry=headers.get("periodic_task_name") or headers.get("shadow"),
        slot_ms=None if slot_ms is None else int(slot_ms),
        mid=headers.get("tw_mid"),
        task=headers.get("task"),
        task_id=headers.get("id"),
    )


def note_last(last_ms: dict[str, int], lines: Iterable[Line]) -> None:
    """Note the last slot of each entry."""
    for line in lines:
        if line.entry is not None:
            last_ms[line.entry] = max(line.slot_ms or line.at_ms, last_ms.get(line.entry, 0))
