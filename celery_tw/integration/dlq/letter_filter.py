"""Letter filter: which dead letters a verb is about."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import TypedDict

from celery_tw.core.death import REASONS
from celery_tw.integration.moments import aware_ms
from celery_tw.stores.redis.dead_letters import Letter


class Filters(TypedDict, total=False):
    """What a letter has to be, all of it; see `LetterFilter`."""

    ids: Sequence[str] | None
    task: str | None
    queue: str | None
    exception: str | None
    fingerprint: str | None
    reason: str | None
    since: datetime | None
    until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterFilter:
    """Letters with one of *ids*, of a *task*, from a *queue*, with an *exception* (patterns with ``*`` and ``?``), of one error, and so on.

    *exception* is the name of a type, with or without its module. *since* and *until* are about the last death, as aware datetimes.
    """

    ids: Sequence[str] | None = None
    task: str | None = None
    queue: str | None = None
    exception: str | None = None
    fingerprint: str | None = None
    reason: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        if self.reason is not None and self.reason not in REASONS:
            raise ValueError(f"the reason of a death is one of {', '.join(REASONS)}, not {self.reason!r}")

    @property
    def since_ms(self) -> int | None:
        return None if self.since is None else aware_ms(self.since, what="since")

    @property
    def until_ms(self) -> int | None:
        return None if self.until is None else aware_ms(self.until, what="until")

    def wants(self, letter: Letter) -> bool:
        """Return whether the letter is among those asked for."""
        death = letter.death
        since_ms, until_ms = self.since_ms, self.until_ms
        return (
            (self.ids is None or letter.letter_id in self.ids)
            and _like(death.task, self.task)
            and _like(death.queue, self.queue)
            and (_like(death.exception, self.exception) or _like(death.exception.rpartition(".")[2], self.exception))
            and self.fingerprint in (None, death.fingerprint)
            and self.reason in (None, death.reason)
            and (since_ms is None or letter.last_ms >= since_ms)
            and (until_ms is None or letter.last_ms <= until_ms)
        )


def _like(text: str, pattern: str | None) -> bool:
    return pattern is None or fnmatchcase(text, pattern)
