"""Receiver: takes messages off a queue as they come, in a process of its own, and notes when each was there.

BRPOP waits for the first message of a burst and one RPOP takes the rest; both answers get a time stamp of the machine's wall clock, which
the server on the same machine shares. Bodies are read only at the end.

``python -m benchmarks.receiver SOCKET QUEUE`` says ``ready``, receives until SIGTERM, and prints the messages as JSON.
"""

import base64
import json
import signal
import subprocess
import sys
import time
from dataclasses import astuple, dataclass

import redis

from benchmarks.contender import ROOT

BURST = 1000
WAIT_S = 0.5


@dataclass(frozen=True, slots=True)
class Received:
    """A message: when it was there (wall clock), its task's argument, its id, and its slot if it says one."""

    at_s: float
    number: int
    task_id: str
    slot_ms: int | None


class Receiver:
    """Receives in a process of its own until ``stop``."""

    def __init__(self, socket_path: object, queue: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.receiver", str(socket_path), queue], cwd=ROOT, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def stop(self) -> list[Received]:
        """End the process and return what it received, in order."""
        self._process.terminate()
        out, _ = self._process.communicate()
        return [Received(*fields) for fields in json.loads(out)]


def receive(client: redis.Redis, queue: str, stopped: list[int]) -> list[tuple[float, bytes]]:
    """Return the messages that came until *stopped* holds something, each with its time."""
    came: list[tuple[float, bytes]] = []
    while not stopped:
        first = client.brpop([queue], timeout=WAIT_S)
        if first is None:
            continue
        came.append((time.time(), first[1]))
        rest = client.rpop(queue, BURST)
        at_s = time.time()
        came.extend((at_s, message) for message in rest or ())
    return came


def _read(at_s: float, message: bytes) -> Received:
    envelope = json.loads(message)
    (number, *_), *_ = json.loads(base64.b64decode(envelope["body"]))
    headers = envelope["headers"]
    return Received(at_s, number, headers["id"], headers.get("tw_slot"))


def main(socket_path: str, queue: str) -> None:
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda signum, frame: stopped.append(signum))
    with redis.Redis(unix_socket_path=socket_path) as client:
        client.ping()
        print("ready", flush=True)
        came = receive(client, queue, stopped)
    print(json.dumps([astuple(_read(*each)) for each in came]))


if __name__ == "__main__":
    main(*sys.argv[1:])
