"""Script: one verb of the timetable, run inside Redis.

Each ``lua/<name>.lua`` is one verb. It is sent by its digest; a server that does not know it (new, flushed, promoted) answers NOSCRIPT
and is given the text once. NOSCRIPT proves that the script did not run, so the second try is safe; no other error is retried here.

What several verbs have in common is a part, ``lua/parts/<name>.lua``: functions that are local to whoever names the part in its head, as in
``-- uses now, kinds``. The parts are put before it, in that order, and one text goes to Redis. Where Redis tells a line of that text, the
error tells the file and its line. A verb of many words is cut into parts as well: one of them names the keys and arguments of the call,
for those behind it and for the script.
"""

import hashlib
import re
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any, TypeVar

import redis

from celery_tw.errors import StaleEpoch, StoreRefused, StoreUnavailable

Argument = str | bytes | int

T = TypeVar("T")

RedisClient = Any
"""A `redis.Redis` whose replies are bytes. Its own annotations leave open whether replies are bytes or text, so it goes untyped here."""


_USES = re.compile(r"^-- uses (.+)$", re.MULTILINE)
_LINE_OF_TEXT = re.compile(r"\buser_script:(\d+)")


class Script:
    """A Lua script with its digest; *sources* are the files that it is put together from, and their texts."""

    def __init__(self, name: str) -> None:
        self.name = name
        own = _read(f"{name}.lua")
        used = _USES.search(own)
        parts = [f"parts/{part}.lua" for part in used[1].split(", ")] if used else []
        self.sources = [*((part, _read(part)) for part in parts), (f"{name}.lua", own)]
        self.text = "".join(text for _, text in self.sources)
        self.digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def place(self, line: int) -> str:
        """Return the file, and the line in it, of a *line* of the text."""
        lines = [f"{file}:{number}" for file, text in self.sources for number in range(1, text.count("\n") + 1)]
        return lines[min(line, len(lines)) - 1]

    def run(self, client: RedisClient, keys: list[str | bytes], args: list[Argument]) -> Any:
        """Run the script and return its reply.

        Raises `StaleEpoch` when the script refused the caller's epoch, `StoreRefused` when Redis refused the command, and
        `StoreUnavailable` when no answer came (the script may have run).
        """
        try:
            return client.evalsha(self.digest, len(keys), *keys, *args)
        except Exception as error:  # what is answered, as nearly all is, goes through no clause
            with translated_errors(self.name):
                if not isinstance(error, redis.exceptions.NoScriptError):
                    raise
                client.script_load(self.text)
                return client.evalsha(self.digest, len(keys), *keys, *args)


@cache
def script(name: str) -> Script:
    """Return the script *name*, read once per process."""
    return Script(name)


def _read(file: str) -> str:
    return files("celery_tw.stores.redis").joinpath("lua", file).read_text(encoding="utf-8")


def asked_twice(ask: Callable[[], T]) -> T:
    """Return the answer to a question that is safe to repeat: no answer may mean that only the answer was lost.

    Raises `StoreUnavailable` when the second one has no answer either.
    """
    try:
        return ask()
    except StoreUnavailable:
        return ask()


class translated_errors:  # noqa: N801 - reads as a clause of `with`
    """Turn errors of redis-py into ours; the codes without a class of their own are told by their prefix."""

    BUSY = ("BUSY", "UNKILLABLE", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN")  # the last four: in older versions of redis-py
    NOT_READY = (
        redis.exceptions.ReadOnlyError,
        redis.exceptions.ClusterDownError,  # MASTERDOWN too
        redis.exceptions.TryAgainError,
    )
    """Codes with a class of their own, whose texts have lost them."""

    def __init__(self, verb: str) -> None:
        self.verb = verb

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is None:
            return
        if isinstance(error, redis.exceptions.AuthenticationError):
            raise StoreUnavailable(f"{self.verb}: Redis does not take the user and password of its URL: {error}") from error
        if isinstance(error, (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError)):
            raise StoreUnavailable(f"{self.verb}: Redis did not answer: {error}") from error
        if isinstance(error, redis.exceptions.ResponseError):
            raise self._refusal(error) from error
        if isinstance(error, UnicodeEncodeError):
            raise StoreRefused(f"{self.verb}: {error.object[:80]!r} is no text that could be written as UTF-8") from error

    def _refusal(self, error: redis.exceptions.ResponseError) -> Exception:
        text = _LINE_OF_TEXT.sub(lambda told: script(self.verb).place(int(told[1])), str(error))
        if isinstance(error, redis.exceptions.OutOfMemoryError):
            return StoreRefused(f"{self.verb}: Redis is out of memory, nothing was written: raise its maxmemory or free some ({text})")
        if "STALE" in text:
            return StaleEpoch(f"{self.verb}: {text}")
        if isinstance(error, self.NOT_READY) or text.startswith(self.BUSY):
            return StoreUnavailable(f"{self.verb}: Redis is not ready: {text}")
        return StoreRefused(f"{self.verb}: {text}")
