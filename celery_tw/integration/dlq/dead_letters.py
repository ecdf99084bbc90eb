"""Dead letters: ``tw.dlq``, what people and programs can do about tasks that have failed for good.

Each verb takes the same filters, all of them optional; see `LetterFilter`. Without any it is about all letters.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Unpack

from celery_tw.core.node_id import NodeId
from celery_tw.errors import CeleryTWError, MalformedRecord, UnknownDeadLetter
from celery_tw.integration.cancellation.announcing import request_of
from celery_tw.integration.dlq.letter_filter import Filters, LetterFilter
from celery_tw.integration.dlq.letter_views import (
    DeadLetterDetails,
    ErrorGroup,
    Imported,
    LetterPage,
    Replayed,
    groups_of,
    view,
)
from celery_tw.integration.dlq.log_lines import read_lines
from celery_tw.integration.dlq.node_replays import retry_node
from celery_tw.integration.dlq.replaying import Replays
from celery_tw.stores.redis.dead_letters import PAGE, DeadLetters, Letter, matching
from celery_tw.stores.redis.envelope import Envelope, read_envelope
from celery_tw.stores.redis.refused_messages import RefusedMessages

Arguments = tuple[Sequence[Any], Mapping[str, Any]]
WARNINGS_AT_MOST = 20


@dataclass(slots=True)
class _Tally:
    """What a requeue has done so far."""

    count: int = 0
    gone: int = 0
    warnings: dict[str, None] = field(default_factory=dict)

    def warn(self, letter: Letter) -> None:
        for warning in warnings_about(letter):
            self.warnings.setdefault(f"{letter.death.task}[{letter.death.task_id}]: {warning}")

    def read(self) -> Replayed:
        return Replayed(count=self.count, gone=self.gone, warnings=tuple(islice(self.warnings, WARNINGS_AT_MOST)))


class DeadLetterBox:
    """The verbs on the dead letters of one app's timetable. Every one may raise `StoreUnavailable`."""

    def __init__(self, app: Any, letters: DeadLetters, refused: RefusedMessages) -> None:
        self.app = app
        self._letters = letters
        self._refused = refused

    # Looking

    def list(self, limit: int = 100, cursor: str | None = None, **filters: Unpack[Filters]) -> LetterPage:
        """Return up to *limit* letters, the newest first, and the cursor for more."""
        found = list(islice(self._find(LetterFilter(**filters), _place(cursor)), limit + 1))
        more = f"{found[limit - 1].last_ms}:{found[limit - 1].letter_id}" if len(found) > limit > 0 else None
        return LetterPage(letters=tuple(view(letter) for letter in found[:limit]), cursor=more)

    def count(self, **filters: Unpack[Filters]) -> int:
        """Return how many letters there are."""
        return sum(1 for _ in self._find(LetterFilter(**filters)))

    def groups(self, **filters: Unpack[Filters]) -> Sequence[ErrorGroup]:
        """Return the letters grouped by error, the most frequent error first."""
        return groups_of(self._find(LetterFilter(**filters)))

    def show(self, letter_id: str) -> DeadLetterDetails:
        """Return all of one letter; raises `UnknownDeadLetter`."""
        (letter,), (message,) = self._letters.read([letter_id]) or (None,), self._letters.messages([letter_id])
        if letter is None or message is None:
            raise UnknownDeadLetter(letter_id)
        envelope, death = _envelope(message), letter.death
        args, kwargs = self._arguments(envelope)
        return DeadLetterDetails(
            letter=view(letter),
            traceback=death.traceback,
            args=args,
            kwargs=kwargs,
            headers=envelope.headers if envelope else {},
            properties=envelope.properties if envelope else {},
            body=envelope.body if envelope else message,
            group=death.group,
            chord=death.chord,
            root=death.root,
            parent=death.parent,
            warnings=tuple(warnings_about(letter)),
        )

    # Acting

    def requeue(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        rate: float | None = None,
        **filters: Unpack[Filters],
    ) -> Replayed:
        """Let tasks run again, as the next generation of their runs: at once, or *rate* a second.

        Other *args* and *kwargs* may be given for a single letter; those not given stay as they are. Raises ValueError when they are given
        and not exactly one letter is meant, or when the letter's own cannot be read and only one of the two is given.
        """
        if rate is not None and not rate > 0:
            raise ValueError(f"a rate is a number of tasks a second, more than 0, not {rate!r}")
        which = LetterFilter(**filters)
        arguments = self._edited(which, args, kwargs)
        replays, tally, delay_ms = Replays(self.app), _Tally(), 0.0
        for page in _in_pages(self._oldest_first(which)):
            for letter in page:
                tally.warn(letter)
            ordinary = [letter for letter in page if not self._goes_elsewhere(letter, arguments, tally)]
            delays_ms = [delay_ms + (1000 * index / rate if rate else 0) for index in range(len(ordinary))]
            delay_ms += 1000 * len(ordinary) / rate if rate else 0
            self._requeue(ordinary, delays_ms, replays, arguments, tally)
        return tally.read()

    def purge(self, **filters: Unpack[Filters]) -> int:
        """Throw letters away for good; return how many."""
        found = self._oldest_first(LetterFilter(**filters))
        self._forget_refused(found)
        return self._letters.drop([letter.letter_id for letter in found])[0]

    def import_lines(self, lines: Iterable[str]) -> Imported:
        """Bring back the letters that a worker could only write to its log; a line read twice is one letter."""
        letters = unreadable = 0
        for found in read_lines(lines):
            if found is None:
                unreadable += 1
            else:
                self._letters.bury(*found)
                letters += 1
        return Imported(letters=letters, unreadable=unreadable)

    # Finding

    def _find(self, which: LetterFilter, after: tuple[int, str] | None = None) -> Iterator[Letter]:
        if which.ids is not None:
            listed = self._letters.read(list(dict.fromkeys(which.ids)))
            newest = sorted(listed, key=lambda letter: (letter.last_ms, letter.letter_id), reverse=True)
            return (each for each in newest if which.wants(each) and (after is None or (each.last_ms, each.letter_id) < after))
        return matching(self._letters.newest(since_ms=which.since_ms, until_ms=which.until_ms, after=after), which.wants)

    def _oldest_first(self, which: LetterFilter) -> Sequence[Letter]:
        """Return the letters to be dealt with, without their tracebacks, for there may be very many."""
        return [replace(letter, death=replace(letter.death, traceback="")) for letter in self._find(which)][::-1]

    def _arguments(self, envelope: Envelope | None) -> tuple[Sequence[Any] | None, Mapping[str, Any] | None]:
        if envelope is None:
            return None, None
        try:
            request = request_of(self.app, envelope)
            return list(request.args), dict(request.kwargs)
        except Exception:  # whatever a serializer may raise: the rest can be shown all the same
            return None, None

    # Requeueing

    def _edited(self, which: LetterFilter, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None) -> Arguments | None:
        if args is None and kwargs is None:
            return None
        (letter, *more) = [*islice(self._find(which), 2)] or (None,)
        if letter is None or more:
            raise ValueError("other arguments can be given for one letter only: name its id")
        (message,) = self._letters.messages([letter.letter_id])
        old_args, old_kwargs = self._arguments(_envelope(message or b""))
        if (args is None and old_args is None) or (kwargs is None and old_kwargs is None):
            raise ValueError("the letter's own arguments cannot be read: give both args and kwargs")
        return (old_args or ()) if args is None else args, (old_kwargs or {}) if kwargs is None else kwargs

    def _requeue(
        self, letters: Sequence[Letter], delays_ms: Sequence[float], replays: Replays, arguments: Arguments | None, tally: _Tally
    ) -> None:
        requeued, those = [], []
        messages = self._letters.messages([letter.letter_id for letter in letters])
        for letter, message, delay_ms in zip(letters, messages, delays_ms, strict=True):
            if message is None:
                tally.gone += 1
                continue
            try:
                one = replays.requeued(letter.letter_id, message, letter.death, arguments=arguments, delay_ms=round(delay_ms))
            except MalformedRecord as error:
                tally.warnings.setdefault(f"the letter {letter.letter_id} stays: {error}")
                continue
            requeued.append(one)
            those.append(letter)
        done = self._letters.requeue(requeued) if requeued else []
        self._forget_refused(letter for letter, was_there in zip(those, done, strict=True) if was_there)
        tally.count += sum(done)
        tally.gone += len(done) - sum(done)

    def _goes_elsewhere(self, letter: Letter, arguments: Arguments | None, tally: _Tally) -> bool:
        """Requeue a node of a DAG into its run, or a message into the outbox that refused it; return whether it was one."""
        if letter.death.claim and arguments is None:
            if self._refused.requeue(self._refused.read([letter.death.claim])):
                tally.count += self._letters.drop([letter.letter_id], counted="requeued")[0]
                return True
            return False
        node_id = NodeId.parse(letter.death.task_id)
        if node_id is None:
            return False
        if arguments is not None:
            raise ValueError("a node of a DAG has the arguments of its run: they cannot be others")
        self._retry_node(letter, node_id, tally)
        return True

    def _retry_node(self, letter: Letter, node_id: NodeId, tally: _Tally) -> None:
        try:
            retry_node(self.app, node_id)
        except CeleryTWError as error:
            tally.warnings.setdefault(f"the letter {letter.letter_id} stays: {error}")
        else:
            tally.count += self._letters.drop([letter.letter_id], counted="requeued")[0]

    def _forget_refused(self, letters: Iterable[Letter]) -> None:
        """Take messages that were purged, or run with other arguments, out of the quarantine of the outbox as well."""
        claims = [letter.death.claim for letter in letters if letter.death.claim]
        if claims:
            self._refused.discard(self._refused.read(claims))


def warnings_about(letter: Letter) -> Iterator[str]:
    """Yield what a replay of the letter does not bring back."""
    if letter.death.chord:
        yield "its chord has ended without it: the replay runs, and the body of the chord does not"


def _in_pages(letters: Sequence[Letter]) -> Iterator[Sequence[Letter]]:
    return (letters[start : start + PAGE] for start in range(0, len(letters), PAGE))


def _place(cursor: str | None) -> tuple[int, str] | None:
    """Return the moment and the id of the letter that a page ended with."""
    if cursor is None:
        return None
    moment, _, letter_id = cursor.partition(":")
    if not moment.isdigit() or not letter_id:
        raise ValueError(f"{cursor!r} is no cursor: take it from the page before")
    return int(moment), letter_id


def _envelope(message: bytes) -> Envelope | None:
    try:
        return read_envelope(message)
    except MalformedRecord:
        return None
