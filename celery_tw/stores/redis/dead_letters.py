"""Dead letters: the messages of tasks that have failed for good, with what is known of each death, on one shard.

The id of a letter is the mid of the send that died, so a second signal of the same death finds the first one's letter. A letter leaves by
being requeued, which lets its task wait in the timetable as a new send, in the same script, or by being dropped.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from celery_tw.core.death import Death, read_death
from celery_tw.errors import MalformedRecord, StoreUnavailable
from celery_tw.stores.redis.codec import SCHEMA
from celery_tw.stores.redis.keys import NEWS_KEPT, OCCASION_KEPT_MS, REDELIVERED_KEPT_MS, Keys
from celery_tw.stores.redis.scripts import Argument, RedisClient, asked_twice, script, translated_errors
from celery_tw.stores.redis.templates import CUTTER, Template
from celery_tw.stores.redis.timetable import Timetable

PAGE = 200
OVERHEAD = 300
"""What a letter takes in Redis beyond its message and its facts, about."""

UNREADABLE = Death(reason="failed", message="what is known of it cannot be read")


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A dead letter without its message; *count* is how often the send has died."""

    letter_id: str
    death: Death
    first_ms: int
    last_ms: int
    count: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Requeued:
    """A letter that is to go out again: *rest* is the record of its new send, from the line after the moment of storing."""

    letter_id: str
    mid: str
    task_id: str
    rest: bytes
    delay_ms: int = 0


@dataclass(frozen=True, slots=True)
class Totals:
    """How many letters there are, their bytes, and what has ever been counted: buried, requeued, purged, expired, dropped."""

    letters: int
    size: int
    counts: Mapping[str, int]


class DeadLetters:
    """The verbs, on one shard."""

    def __init__(self, client: RedisClient, keys: Keys) -> None:
        self.client = client
        self.keys = keys
        self._timetable = Timetable(client, keys)

    # Burying

    def bury(self, letter_id: str, message: bytes, death: Death, *, occasion: str | None = None) -> tuple[str, int]:
        """Keep *message* and what is known of its death; return new, again or same, and how often it has died.

        The run that died, if it is on record, is not started again. *occasion* is what two signals of this death have in common; the
        worker and the error if it is not given.
        """
        shard, facts = self.keys, death.write()
        keys: list[str | bytes] = [shard.dlq, shard.dead(letter_id), shard.dlq_bytes, shard.dlq_counts, shard.run(death.mid)]
        keys.append(shard.requeued(letter_id))
        args: list[Argument] = [letter_id, occasion or death.occasion, message, facts, len(message) + len(facts) + OVERHEAD, death.token]
        try:
            _, verdict, count = script("bury").run(self.client, keys, args)
        except StoreUnavailable:
            _, verdict, count = script("bury").run(self.client, keys, args)
            if verdict == b"same" and int(count) == 1:  # it was the first call, whose answer was lost, that it is the same as
                verdict = b"new"
        return verdict.decode(), int(count)

    def count_redelivery(self, mid: str) -> None:
        """Note that a message that came back is started once more."""
        with translated_errors("INCR"), self.client.pipeline(transaction=False) as pipe:
            pipe.incr(self.keys.redelivered(mid)).pexpire(self.keys.redelivered(mid), REDELIVERED_KEPT_MS).execute()

    def redeliveries(self, mid: str) -> int:
        """Return how often a message was started after it had come back."""
        with translated_errors("GET"):
            return int(self.client.get(self.keys.redelivered(mid)) or 0)

    # Looking

    def totals(self) -> Totals:
        """Return how many letters there are, and what was counted."""
        shard = self.keys
        with translated_errors("totals"), self.client.pipeline(transaction=False) as pipe:
            letters, size, counts = pipe.zcard(shard.dlq).get(shard.dlq_bytes).hgetall(shard.dlq_counts).execute()
        return Totals(int(letters), int(size or 0), {name.decode(): int(count) for name, count in counts.items()})

    def newest(
        self, *, since_ms: int | None = None, until_ms: int | None = None, after: tuple[int, str] | None = None
    ) -> Iterator[list[Letter]]:
        """Yield pages of the letters that died last in [*since_ms*, *until_ms*], the newest first, from the one *after* that one on."""
        start = self._place(after, until_ms)
        low = 0 if since_ms is None else since_ms
        while True:
            with translated_errors("ZREVRANGE"):
                found = self.client.zrevrange(self.keys.dlq, start, start + PAGE - 1, withscores=True)
            ids = [letter_id.decode() for letter_id, died_ms in found if died_ms >= low]
            yield self.read(ids)
            if len(ids) < PAGE:
                return
            start += PAGE

    def _place(self, after: tuple[int, str] | None, until_ms: int | None) -> int:
        """Return how many letters are newer than those asked for."""
        with translated_errors("ZREVRANK"):
            if after is not None:
                rank = self.client.zrevrank(self.keys.dlq, after[1])
                return int(self.client.zcount(self.keys.dlq, f"({after[0]}", "+inf")) if rank is None else int(rank) + 1
            return 0 if until_ms is None else int(self.client.zcount(self.keys.dlq, f"({until_ms}", "+inf"))

    def oldest(self, limit: int) -> list[Letter]:
        """Return up to *limit* letters, those that died first before the others."""
        with translated_errors("ZRANGE"):
            ids = self.client.zrange(self.keys.dlq, 0, limit - 1)
        return self.read([letter_id.decode() for letter_id in ids])

    def read(self, letter_ids: Sequence[str]) -> list[Letter]:
        """Return the letters of *letter_ids*, without those that are gone."""
        with translated_errors("HMGET"), self.client.pipeline(transaction=False) as pipe:
            for letter_id in letter_ids:
                pipe.hmget(self.keys.dead(letter_id), "facts", "first", "last", "count", "size")
            rows = pipe.execute() if letter_ids else []
        return [_letter(letter_id, row) for letter_id, row in zip(letter_ids, rows, strict=True) if row[0] is not None]

    def messages(self, letter_ids: Sequence[str]) -> list[bytes | None]:
        """Return the messages of *letter_ids*, in order; None for one that is gone."""
        with translated_errors("HGET"), self.client.pipeline(transaction=False) as pipe:
            for letter_id in letter_ids:
                pipe.hget(self.keys.dead(letter_id), "message")
            found: list[bytes | None] = pipe.execute() if letter_ids else []
        return found

    # Leaving

    def requeue(self, letters: Sequence[Requeued]) -> list[bool]:
        """Let the tasks of up to some hundred *letters* wait in the timetable; return for each whether it was there to be requeued."""
        statuses = self._requeue(letters)
        taken = [letter for letter, status in zip(letters, statuses, strict=True) if status == "taken"]
        again = iter(self._requeue(taken)) if taken else iter(())
        return [(next(again) if status == "taken" else status) == "put" for status in statuses]

    def _requeue(self, letters: Sequence[Requeued]) -> list[str]:
        shard = self.keys
        entry_ids = self._timetable.reserve(len(letters), one_time=True)
        keys: list[str | bytes] = [shard.dlq, shard.dlq_bytes, shard.dlq_counts, shard.due, shard.by_task, shard.fired, shard.cancelled]
        keys += (shard.news, shard.news_seq, shard.schema, shard.templates, shard.template_dues)
        lasting: dict[Template, int] = {}
        waiting: list[Argument] = []
        for letter, entry_id in zip(letters, entry_ids, strict=True):
            cut = CUTTER.cut(letter.mid.encode(), letter.rest)
            lasting[cut.template] = max(letter.delay_ms, lasting.get(cut.template, 0))
            keys += (shard.dead(letter.letter_id), shard.entry(entry_id), shard.requeued(letter.letter_id))
            waiting += (letter.letter_id, entry_id, letter.mid, letter.task_id, letter.delay_ms, cut.rest)
        args: list[Argument] = [SCHEMA, NEWS_KEPT, len(lasting), OCCASION_KEPT_MS]
        for template, delay_ms in lasting.items():
            args += (template.template_id, template.text, delay_ms)
        _, *statuses = asked_twice(lambda: script("requeue_letters").run(self.client, keys, args + waiting))
        return [status.decode() for status in statuses]

    def drop(
        self, letter_ids: Sequence[str], *, counted: str = "purged", epoch: int | None = None, latest_ms: int | None = None
    ) -> tuple[int, int]:
        """Remove letters for good, but not those that have died after *latest_ms*; return how many, and their bytes.

        They are *counted* as purged, expired or dropped. Raises `StaleEpoch` for a leader that leads no longer.
        """
        shard, dropped, freed = self.keys, 0, 0
        for page in _pages(letter_ids):
            keys: list[str | bytes] = [shard.dlq, shard.dlq_bytes, shard.dlq_counts, shard.leader, *map(shard.dead, page)]
            args: list[Argument] = ["" if epoch is None else epoch, counted, "" if latest_ms is None else latest_ms, *page]
            removed, size = script("drop_letters").run(self.client, keys, args)
            dropped, freed = dropped + int(removed), freed + int(size)
        return dropped, freed


def matching(pages: Iterator[list[Letter]], wanted: Callable[[Letter], bool]) -> Iterator[Letter]:
    """Yield the letters of *pages* that are *wanted*."""
    return (letter for page in pages for letter in page if wanted(letter))


def _pages(letter_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (letter_ids[start : start + PAGE] for start in range(0, len(letter_ids), PAGE))


def _letter(letter_id: str, row: Sequence[bytes | None]) -> Letter:
    facts, *numbers = row
    first_ms, last_ms, count, size = (int(number or 0) for number in numbers)
    try:
        death = read_death(facts or b"")
    except MalformedRecord:
        death = UNREADABLE
    return Letter(letter_id=letter_id, death=death, first_ms=first_ms, last_ms=last_ms, count=count, size=size)
