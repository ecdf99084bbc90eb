"""Queue watch: sees from outside, in a process of its own, when a queue begins to fill and when all has come.

It asks LLEN each 2 ms, which costs the server about one part in a hundred. The filling counts from the last look that saw the queue
empty to the first look that saw everything, so a figure errs by one look and never in a contender's favour.

``python -m benchmarks.queue_watch SOCKET QUEUE TOTAL BOX_S PATIENCE_S`` says ``ready``, watches, and prints what it saw as JSON.
"""

import json
import subprocess
import sys
import time
from dataclasses import dataclass

import redis

from benchmarks.contender import ROOT

LOOK_S = 0.002


@dataclass(frozen=True, slots=True)
class Filling:
    """*count* messages came between *start_s* and *end_s*, by the wall clock."""

    count: int
    start_s: float
    end_s: float

    @property
    def per_s(self) -> float:
        return self.count / (self.end_s - self.start_s) if self.count else 0.0


def watch(client: redis.Redis, queue: str, *, total: int, box_s: float, patience_s: float) -> Filling:
    """Return how *queue* filled up to *total*, or as far as it came *box_s* after its first message.

    Gives up when no message has come within *patience_s*.
    """
    empty_s = time.time()
    give_up_s = empty_s + patience_s
    count = 0
    while count == 0 and time.time() < give_up_s:
        time.sleep(LOOK_S)
        empty_s, before_s = time.time(), empty_s
        count = client.llen(queue)
    start_s = before_s if count else empty_s
    seen_s, end_s = time.time(), time.time()
    while 0 < count < total and end_s - seen_s < box_s:
        time.sleep(LOOK_S)
        count = client.llen(queue)
        end_s = time.time()
    return Filling(count, start_s, end_s)


class QueueWatch:
    """A watch that runs in a process of its own from ``start`` on."""

    def __init__(self, socket_path: object, queue: str, *, total: int, box_s: float, patience_s: float) -> None:
        arguments = [str(value) for value in (socket_path, queue, total, box_s, patience_s)]
        self._process = subprocess.Popen([sys.executable, "-m", "benchmarks.queue_watch", *arguments], cwd=ROOT, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def wait(self) -> Filling:
        """Return what was seen, when the watch is over."""
        out, _ = self._process.communicate()
        return Filling(**json.loads(out))


def main(socket_path: str, queue: str, total: str, box_s: str, patience_s: str) -> None:
    with redis.Redis(unix_socket_path=socket_path) as client:
        client.ping()
        print("ready", flush=True)
        seen = watch(client, queue, total=int(total), box_s=float(box_s), patience_s=float(patience_s))
    print(json.dumps({"count": seen.count, "start_s": seen.start_s, "end_s": seen.end_s}))


if __name__ == "__main__":
    main(*sys.argv[1:])
