"""Stored result: the result of a task as its backend keeps it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StoredResult:
    """*text* under *key* for *kept_s* seconds, for ever if that is 0; published there as well, for who waits."""

    key: bytes
    text: str
    kept_s: int
