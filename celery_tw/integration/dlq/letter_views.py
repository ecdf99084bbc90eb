"""Letter views: dead letters as people and programs see them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from celery_tw.integration.moments import from_ms
from celery_tw.stores.redis.dead_letters import Letter


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A task that has failed for good; *reason* is a word of `celery_tw.core.death`.

    *count* is how often its send has died, *generation* how many replays led to it, *replay_of* the letter that it was a replay of. *size*
    is in bytes.
    """

    letter_id: str
    reason: str
    task: str
    task_id: str
    mid: str
    queue: str
    generation: int
    replay_of: str
    exception: str
    message: str
    fingerprint: str
    worker: str
    attempts: int
    count: int
    first: datetime
    last: datetime
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterDetails:
    """All of a letter; *args* and *kwargs* are None when this process may not, or cannot, decode them. *warnings* are about a replay."""

    letter: DeadLetter
    traceback: str
    args: Sequence[Any] | None
    kwargs: Mapping[str, Any] | None
    headers: Mapping[str, Any]
    properties: Mapping[str, Any]
    body: bytes
    group: str
    chord: str
    root: str
    parent: str
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterPage:
    """Some letters, the newest first, and the cursor for more; None at the end."""

    letters: tuple[DeadLetter, ...]
    cursor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorGroup:
    """The letters of one error; *message* and *reason* are those of the newest."""

    fingerprint: str
    task: str
    exception: str
    message: str
    reason: str
    count: int
    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What a requeue did: *count* letters go out again, *gone* were no longer there, *warnings* say what to expect of some."""

    count: int
    gone: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What was found in a log: *letters* that were brought back, and lines that should have held one and are *unreadable*."""

    letters: int
    unreadable: int


def view(letter: Letter) -> DeadLetter:
    """Return a letter as people see it."""
    death = letter.death
    return DeadLetter(
        letter_id=letter.letter_id,
        reason=death.reason,
        task=death.task,
        task_id=death.task_id,
        mid=death.mid,
        queue=death.queue,
        generation=death.generation,
        replay_of=death.replay_of,
        exception=death.exception,
        message=death.message,
        fingerprint=death.fingerprint,
        worker=death.worker,
        attempts=death.attempts,
        count=letter.count,
        first=from_ms(letter.first_ms),
        last=from_ms(letter.last_ms),
        size=letter.size,
    )


def groups_of(letters: Iterable[Letter]) -> list[ErrorGroup]:
    """Return the errors of *letters*, which come the newest first: the most frequent error first."""
    found: dict[str, list[Any]] = {}
    for letter in letters:
        tally = found.setdefault(letter.death.fingerprint, [letter, 0, letter.first_ms])
        tally[1] += 1
        tally[2] = min(tally[2], letter.first_ms)
    groups = [_group(*tally) for tally in found.values()]
    return sorted(groups, key=lambda group: -group.count)


def _group(newest: Letter, count: int, first_ms: int) -> ErrorGroup:
    death = newest.death
    return ErrorGroup(
        fingerprint=death.fingerprint,
        task=death.task,
        exception=death.exception,
        message=death.message,
        reason=death.reason,
        count=count,
        first=from_ms(first_ms),
        last=from_ms(newest.last_ms),
    )
