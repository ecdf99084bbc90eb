"""Guards: what a run must have before it may start, and how its record and its keys name them."""

from collections.abc import Sequence
from dataclasses import dataclass

from celery_tw.stores.redis.keys import Keys


@dataclass(frozen=True, slots=True)
class Guard:
    """What a run must have before it may start: *kind* is lock, sem, order, idem or unique."""

    kind: str
    key: str
    argument: str = ""


def guard_keys(keys: Keys, guards: Sequence[Guard]) -> list[str]:
    """Return the keys of *guards* as ACQUIRE and FINISH take them: of each its own, that of who waits, and that of its head."""
    return [
        name
        for guard in guards
        for name in (keys.guard(guard.kind, guard.key), keys.wait(guard.kind, guard.key), keys.head(guard.kind, guard.key))
    ]


def write_guards(guards: Sequence[Guard]) -> str:
    """Return *guards* as a run's record keeps them."""
    return "\n".join(f"{guard.kind}\t{guard.argument}\t{guard.key}" for guard in guards)


def read_guards(text: str) -> list[Guard]:
    """Return the guards in a record."""
    parts = (line.split("\t", 2) for line in text.split("\n") if line)
    return [Guard(kind, key, argument) for kind, argument, key in parts]
