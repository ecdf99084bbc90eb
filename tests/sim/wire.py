"""Wire: a connection of redis-py that leads to a simulated server, and the place where faults strike.

Our stores, redis-py's pool and its pipelines are the real ones; only the socket is not. A call takes its way in four steps, and a fault may
strike at each: the caller's turn ends (freeze, crash) → the server runs the command (or refuses, or runs it later) → the turn ends again →
the answer is read (or lost).
"""

from collections import deque
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import redis
from fakeredis import FakeRedisConnection
from redis.backoff import NoBackoff
from redis.retry import Retry

from celery_tw.stores.redis.scripts import script
from tests.sim.faults import CallFault, Crash, Delay, Fault, Freeze, LoseReply, Refuse
from tests.sim.server import Answers, Server, refused_connection
from tests.sim.timeline import Host, Timeline

TIMEOUT_US = 800_000
"""What our client waits for an answer (``integration/broker.py``)."""

SCRIPTS = ("acquire", "cancel", "change", "claim_static", "containing", "defer", "drain", "fire", "fire_once", "hold", "hold_clock")
SCRIPTS += ("hurry", "open_backlog", "page", "poll", "put", "put_once", "quarantine", "remove", "renew", "rerender", "resign")
SCRIPTS += ("sweep_templates", "enter", "make_room", "boost", "admit")

NAMES: dict[bytes, str] = {}
"""The names of the scripts by their digests; a script that has changed meanwhile has another digest and is added."""


class Answer(NamedTuple):
    """What a call will be answered, no sooner than *ready_us*; an error that breaks the connection is raised as it is read."""

    value: Any
    ready_us: int = 0
    breaks: bool = False


class Caller:
    """What the connections of one host have in common: the faults in wait for it, and the chance that draws delays."""

    def __init__(self, host: Host, timeline: Timeline, server: Server) -> None:
        self.host = host
        self.timeline = timeline
        self.server = server
        self.faults: list[CallFault] = []
        self.shared_faults: list[CallFault] = []
        self.strikes: list[tuple[int, Fault]] = []
        self.on_crash: Any = lambda fault: None

    def client(self) -> redis.Redis:
        """Return a client as our own code makes it: no retries, replies as bytes."""
        pool = redis.ConnectionPool(
            connection_class=Wire, caller=self, server=self.server.fake, host="sim", port=1, retry=Retry(NoBackoff(), 0)
        )
        return redis.Redis(connection_pool=pool)

    def ask(self, wire: "Wire", label: str, commands: list[list[bytes]]) -> None:
        """Bring *commands* to the server, and what it answers to *wire*."""
        self.timeline.sleep(self.timeline.chance.randrange(50, 500))
        fault = self._take(label)
        if isinstance(fault, (Crash, Freeze)) and fault.where == "before":
            self._stop(fault)
        if self.server.away or wire.broken():
            raise wire.cut(refused_connection())
        if isinstance(fault, Refuse):
            self._refuse(wire, fault, commands)
            return
        late_us = fault.for_ms * 1000 if isinstance(fault, Delay) else self.server.stalled_until_us - self.timeline.now_us
        if late_us > 0:
            self._run_later(wire, label, commands, late_us)
            return
        answers = [self.run(wire, label, command) for command in commands]
        if isinstance(fault, LoseReply):
            answers = [self._lost(fault)]
        wire.answers.extend(answers)
        if isinstance(fault, (Crash, Freeze)) and fault.where == "after":
            self._stop(fault)

    def run(self, wire: "Wire", label: str, command: list[bytes]) -> Answer:
        """Let the server run one command, waiting for news if that is asked."""
        fields, block_us = _without_block(command)
        until_us = self.timeline.now_us + block_us
        while True:
            reply = self.server.execute(wire.socket, label, self.host.name, fields)
            if reply or self.timeline.now_us >= until_us:
                return Answer(reply)
            self.server.wait_for_news(until_us - self.timeline.now_us)
            if self.server.away or wire.broken():
                return Answer(refused_connection(), breaks=True)

    def _take(self, label: str) -> CallFault | None:
        now_ms = self.timeline.now_us // 1000
        for waiting in (self.faults, self.shared_faults):
            for fault in waiting:
                if fault.at_ms <= now_ms and fault.call in ("", label):
                    waiting.remove(fault)
                    self.strikes.append((now_ms, fault))
                    if isinstance(fault, Refuse) and fault.times > 1:
                        waiting.append(replace(fault, times=fault.times - 1))
                    return fault
        return None

    def _stop(self, fault: Crash | Freeze) -> None:
        if isinstance(fault, Crash):
            self.on_crash(fault)
        else:
            self.timeline.freeze(self.host, fault.for_ms * 1000)
        self.timeline.sleep(0)

    def _refuse(self, wire: "Wire", fault: Refuse, commands: list[list[bytes]]) -> None:
        if not fault.error:
            raise wire.cut(redis.exceptions.ConnectionError("Connection reset by peer"))
        wire.answers.extend(Answer(self.server.error(wire.socket, fault.error)) for _ in commands)

    def _run_later(self, wire: "Wire", label: str, commands: list[list[bytes]], late_us: int) -> None:
        """Have the commands run when the server comes to it, whether anybody still waits for the answers or not."""
        socket, asked_us, name = wire.socket, self.timeline.now_us, self.host.name
        on_time = late_us < TIMEOUT_US
        answers = [Answer(None, asked_us + late_us) for _ in commands] if on_time else [self._time_out()]

        def run() -> None:
            for at, command in enumerate(commands):
                reply = self.server.execute(socket, label, name, _without_block(command)[0])
                if on_time and answers[at] in wire.answers:
                    wire.answers[wire.answers.index(answers[at])] = Answer(reply, asked_us + late_us)

        wire.answers.extend(answers)
        self.timeline.at(asked_us + late_us, run)

    def _lost(self, fault: LoseReply) -> Answer:
        if fault.how == "reset":
            return Answer(redis.exceptions.ConnectionError("Connection reset by peer"), breaks=True)
        return self._time_out()

    def _time_out(self) -> Answer:
        return Answer(redis.exceptions.TimeoutError("Timeout reading from socket"), self.timeline.now_us + TIMEOUT_US, breaks=True)


class Wire(FakeRedisConnection):
    """One connection; commands are not packed into bytes and back, which is most of what a call costs."""

    def __init__(self, *args: Any, caller: Caller, **options: Any) -> None:
        super().__init__(*args, **options)
        self.caller = caller
        self.answers: deque[Answer] = deque()
        self.generation = 0

    @property
    def socket(self) -> Any:
        return self._sock

    def connect(self) -> None:
        if self._sock:
            return
        if self.caller.server.away:
            raise refused_connection()
        self._sock = self._connect()
        self._sock.responses = Answers()
        self._sock._name_to_func = cache(self._sock._name_to_func)  # asked for each command, of scripts too
        self.answers.clear()
        self.generation = self.caller.server.generation

    def broken(self) -> bool:
        """Return whether the server has dropped this connection."""
        return not self._sock or self.generation != self.caller.server.generation

    def cut(self, error: Exception) -> Exception:
        """Close this side too, and return *error*."""
        self.disconnect()
        return error

    def disconnect(self, *args: Any, **options: Any) -> None:
        self._sock = None
        self.answers.clear()

    def can_read(self, timeout: float | None = 0) -> bool:
        return bool(self.answers)

    def pack_commands(self, commands: Any) -> list[Any]:
        return list(commands)

    def send_command(self, *args: Any, **options: Any) -> None:
        self.send_packed_command([args])

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        self.connect()
        commands = [_words(words) if isinstance(words, bytes) else [self.encoder.encode(word) for word in words] for words in command]
        self.caller.ask(self, _label(commands), commands)

    def read_response(self, *args: Any, **options: Any) -> Any:
        self.caller.timeline.sleep(self.caller.timeline.chance.randrange(50, 300))
        if not self.answers:
            raise self.cut(refused_connection())
        wait_us = self.answers[0].ready_us - self.caller.timeline.now_us
        if wait_us > 0:
            self.caller.timeline.sleep(wait_us + 1)
        answer = self.answers.popleft() if self.answers else Answer(refused_connection(), breaks=True)
        if answer.breaks or self.broken():
            raise self.cut(answer.value if answer.breaks else refused_connection())
        if isinstance(answer.value, Exception):
            raise answer.value
        return self._decode(answer.value)


def _label(commands: list[list[bytes]]) -> str:
    """Return the name of the script, or of the first command."""
    first = commands[0]
    word = first[0].decode().lower()
    return _script_name(first[1]) if word == "evalsha" else word


def _script_name(digest: bytes) -> str:
    if digest not in NAMES:
        NAMES.update({script(name).digest.encode(): name for name in SCRIPTS})
    return NAMES.get(digest, "unknown")


def _without_block(command: list[bytes]) -> tuple[list[bytes], int]:
    """Return *command* without its BLOCK, and how many us it would wait."""
    if command[0] != b"XREAD" or b"BLOCK" not in command:
        return command, 0
    at = command.index(b"BLOCK")
    return command[:at] + command[at + 2 :], int(command[at + 1]) * 1000


def _words(packed: bytes) -> list[bytes]:
    """Return the words of one command as it goes over the wire."""
    words: list[bytes] = []
    at = packed.index(b"\r\n") + 2
    while at < len(packed):
        begin = packed.index(b"\r\n", at) + 2
        end = begin + int(packed[at + 1 : begin])
        words.append(packed[begin:end])
        at = end + 2
    return words
