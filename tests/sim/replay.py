"""Replay: the calls of a simulation again, on a real server, with the same answers expected.

fakeredis is not Redis. A tape of every call that the simulated server ran is played to a real one, and each reply is compared, and at the
end all data. Three things are bent so that time does not matter: ``TIME`` in the scripts reads the tape's moment from a key, stream ids are
made of that moment, and keys that have run out of time by the tape are deleted by hand, so that leases last. What is left of a lease is not
compared.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha1
from typing import Any

import redis

from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.redis.scripts import script
from tests.sim.ledger import Call
from tests.sim.wire import SCRIPTS

SECONDS, MICROS, MOMENT = "sim:seconds", "sim:micros", "sim:moment"
BENT = {
    "redis.call('TIME')": f"{{redis.call('GET', '{SECONDS}'), redis.call('GET', '{MICROS}')}}",
    "'*', 'n', number": f"redis.call('GET', '{MOMENT}') .. '-*', 'n', number",
    "'*', 'n', count": f"redis.call('GET', '{MOMENT}') .. '-*', 'n', count",
    "redis.call('PEXPIRE', leader, lease)": "redis.call('PEXPIRE', leader, 86400000)",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """A call that the two servers answered differently."""

    call: Call
    real: Any

    def __str__(self) -> str:
        return f"call {self.call.number} {self.call.label} of {self.call.host}: simulated {self.call.reply!r}, real {self.real!r}"


class Replay:
    """Plays tapes to the server of *client*, which is empty. The calls have a connection to themselves: some are transactions."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self.client: Any = client
        self.keys = keys
        self.digests = {script(name).digest.encode(): self._load(name) for name in SCRIPTS}
        self.own: Any = self.client.client()

    def _load(self, name: str) -> str:
        text = script(name).text
        for timed, bent in BENT.items():
            text = text.replace(timed, bent)
        self.client.script_load(text)
        return sha1(text.encode(), usedforsecurity=False).hexdigest()

    def differences(self, tape: list[Call]) -> Iterator[Difference]:
        """Yield each call that is answered otherwise than it was in the simulation."""
        for call in tape:
            reply = self._run(call)
            if _comparable(call, reply) != _comparable(call, call.reply):
                yield Difference(call, reply)

    def _run(self, call: Call) -> Any:
        now_us = call.server_us
        self.client.mset({SECONDS: now_us // 1_000_000, MICROS: now_us % 1_000_000, MOMENT: now_us // 1000})
        if call.expired:
            self.client.delete(*call.expired)
        word = call.fields[0].upper()
        if word == b"TIME":
            return [str(now_us // 1_000_000).encode(), str(now_us % 1_000_000).encode()]
        fields = list(call.fields)
        if word == b"EVALSHA":
            if isinstance(call.reply, redis.exceptions.NoScriptError):
                return call.reply
            fields[1] = self.digests[fields[1]].encode()
        if word == b"SCRIPT":
            return call.reply
        try:
            self.own.connection.send_command(*fields)
            return self.own.connection.read_response()
        except redis.exceptions.ResponseError as error:
            return error


def _comparable(call: Call, reply: Any) -> Any:
    """Return a reply without what depends on real time, or on how a protocol writes the same thing."""
    if isinstance(reply, Exception):
        return type(reply).__name__
    if call.label == "acquire" and isinstance(reply, list) and reply[0] == b"held":
        return [*reply[:4], *reply[5:]]
    return _plain(reply)


def _plain(reply: Any) -> Any:
    if not reply and not isinstance(reply, int):
        return None
    if isinstance(reply, dict):
        return sorted((_plain(name), _plain(value)) for name, value in reply.items())
    if isinstance(reply, (list, tuple)):
        return [_plain(item) for item in reply]
    if isinstance(reply, float):
        return repr(reply)
    return reply
