"""Waiting: the one place where a test may poll. Wait for the fact itself, never for a length of time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
POLL_EVERY_S = 0.01


def wait_until(predicate: Callable[[], T], timeout_s: float = 10.0, *, message: str = "") -> T:
    """Return the first true value of *predicate*; after *timeout_s* fail with *message* and the last value."""
    deadline = time.monotonic() + timeout_s
    while not (value := predicate()):
        if time.monotonic() > deadline:
            what = message or getattr(predicate, "__qualname__", repr(predicate))
            raise AssertionError(f"waited {timeout_s:g} s in vain for {what}; the last value was {value!r}")
        time.sleep(POLL_EVERY_S)
    return value
