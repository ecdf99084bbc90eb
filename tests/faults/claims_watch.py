"""ClaimsWatch: sees what the store accepts, by MONITOR, so that no scheduler has to be believed.

Redis shows a script's call with its arguments, the leader's epoch first, and then each command that the script carries out. A message that
a firing script pushes to a queue, or puts into the outbox, is a slot taken as decided, in the store's own order.
"""

import ast
import json
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from celery_tw.stores.redis.scripts import script
from celery_tw.testing.ledger import Ledger, Line, What

FIRING = frozenset(script(name).digest.encode() for name in ("fire", "fire_once", "admit", "drain"))
PUSHING = (b"lpush", b"xadd")
SHOWN = re.compile(rb"^([\d.]+) \[\d+ (\S+)\] (.*)$", re.DOTALL)
ARGUMENT = re.compile(rb'"((?:[^"\\]|\\.)*)"')
AGAIN_S = 0.05


class ClaimsWatch:
    """Writes a ``claimed`` line to *ledger* for each slot that the server takes as decided, until `stop`.

    *terms_ms* is when each epoch claimed for the first time.
    """

    def __init__(self, ledger: Ledger, connect: Callable[..., redis.Redis]) -> None:
        self.ledger = ledger
        self.connect = connect
        self.terms_ms: dict[int, int] = {}
        self._attached = threading.Event()
        self._stopped = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Start to watch; return when every command is seen."""
        self._thread.start()
        assert self._attached.wait(20), "MONITOR did not answer"

    def stop(self) -> None:
        """End; raises what ended the watch before, so that no verdict stands on half a history."""
        self._stopped = True
        if self._attached.is_set():
            self._thread.join(10)
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while not self._stopped:
            try:
                with self.connect(retry=Retry(NoBackoff(), 0)) as client, client.monitor() as monitor:
                    self._attached.set()
                    self._follow(monitor.connection)
            except (redis.ConnectionError, redis.ResponseError, OSError):
                time.sleep(AGAIN_S)
            except BaseException as error:
                self._error = error
                raise

    def _follow(self, connection: Any) -> None:
        epoch = None
        while not self._stopped:
            if not connection.can_read(timeout=0.2):
                continue
            shown = SHOWN.match(connection.read_response(disable_decoding=True))
            if shown is None:
                continue
            at_ms, by, command = int(float(shown[1]) * 1000), shown[2], shown[3]
            if by != b"lua":
                epoch = _epoch(command) if b"evalsha" in command[:10].lower() else epoch
            elif epoch is not None and command.split(b" ", 1)[0].strip(b'"').lower() in PUSHING:
                self.terms_ms.setdefault(epoch, at_ms)
                lines = [line for argument in _arguments(command) if (line := _claim(argument, at_ms, epoch))]
                if lines:
                    self.ledger.append(*lines)


def _epoch(command: bytes) -> int | None:
    """Return the epoch of a firing script's call."""
    arguments = _arguments(command)
    if arguments[1] not in FIRING:
        return None
    return int(arguments[3 + int(arguments[2])])


def _arguments(command: bytes) -> list[bytes]:
    return [ast.literal_eval('b"' + text.decode("latin-1") + '"') for text in ARGUMENT.findall(command)]


def _claim(argument: bytes, at_ms: int, epoch: int) -> Line | None:
    """Return the line for a message, or None for what is none: keys begin with a brace as well, and history is pushed to."""
    if not argument.startswith(b'{"'):
        return None
    headers = json.loads(argument).get("headers") or {}
    slot_ms = headers.get("tw_slot") or headers.get("tw_eta")
    if headers.get("periodic_task_name") is None or slot_ms is None:
        return None
    return Line(
        what=What.CLAIMED, at_ms=at_ms, entry=headers["periodic_task_name"], slot_ms=int(slot_ms), mid=headers.get("tw_mid"), epoch=epoch
    )
