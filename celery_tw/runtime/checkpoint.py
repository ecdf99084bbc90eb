"""Checkpoint: the state from which a long task goes on, kept as JSON under its task id.

The task id outlives retries, reassignments and requeues, so the state does too. Each save carries the token of the run: a process that
lost the run cannot overwrite what its successor saved. A task that succeeds leaves none;
one that fails or is cancelled leaves its last.
"""

from collections.abc import Callable
from typing import Any

from kombu.utils.json import dumps, loads

from celery_tw.errors import InvalidCheckpoint, LeaseLost


def encode(state: Any, *, max_bytes: int) -> bytes:
    """Return *state* as JSON; raises `InvalidCheckpoint` when it has no JSON form, or is larger than *max_bytes*."""
    try:
        text: str = dumps(state)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidCheckpoint(f"a checkpoint must have a JSON form, and this {type(state).__name__} has none: {error}") from error
    raw = text.encode()
    if len(raw) > max_bytes:
        raise InvalidCheckpoint(f"the checkpoint has {len(raw):,} bytes: expected at most {max_bytes:,} (tw_checkpoint_max_bytes)")
    return raw


class Checkpoint:
    """The checkpoint of one run, over the verbs *load*, *save* and *clear* of a store."""

    def __init__(
        self, *, load: Callable[[], bytes | None], save: Callable[[bytes], None], clear: Callable[[], bool], max_bytes: int
    ) -> None:
        self._load = load
        self._save = save
        self._clear = clear
        self._max_bytes = max_bytes

    def load(self, default: Any = None) -> Any:
        """Return the state that was saved last, by this run or the one before it, or *default*."""
        raw = self._load()
        return default if raw is None else loads(raw)

    def save(self, state: Any) -> None:
        """Keep *state*; raises `InvalidCheckpoint` or `LeaseLost` (not saved), `TaskCancelled` or `TaskYielded` (saved)."""
        self._save(encode(state, max_bytes=self._max_bytes))

    def clear(self) -> None:
        """Forget the state; raises `LeaseLost`."""
        if not self._clear():
            raise LeaseLost("another process runs this task by now: its checkpoint was not cleared")


class MemoryCheckpoint(Checkpoint):
    """The checkpoint of a task that is called directly or eagerly: it lasts as long as the call."""

    def __init__(self, *, max_bytes: int = 1_000_000) -> None:
        self._state: bytes | None = None
        super().__init__(load=lambda: self._state, save=self._keep, clear=self._forget, max_bytes=max_bytes)

    def _keep(self, state: bytes) -> None:
        self._state = state

    def _forget(self) -> bool:
        self._state = None
        return True
