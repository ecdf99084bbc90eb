"""Outbox control: what a person can do about messages that a broker apart does not take.

A message that the broker refuses is tried again a few times and then buried, which keeps it, and the reason, until somebody decides. Once
the queue, the exchange or the right that was missing is there, ``requeue`` puts it back into the outbox, with the ids it had. ``discard``
throws it away: its slot is recorded as skipped, its result becomes REVOKED and its chord hears of it, as for a task that is cancelled.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from celery_tw.errors import MalformedRecord, UnknownMessage
from celery_tw.integration.cancellation.announcing import announce, request_of
from celery_tw.integration.dlq.letter_ids import letter_id_of_headers
from celery_tw.integration.moments import from_ms
from celery_tw.stores.redis.dead_letters import DeadLetters
from celery_tw.stores.redis.envelope import Envelope, read_envelope
from celery_tw.stores.redis.refused_messages import RefusedMessage, RefusedMessages

SHOWN_AT_MOST = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxMessage:
    """A message that the broker refused: *state* is refused (it will be tried again) or buried.

    *entry* is the name of the entry that it was sent for, if it was, and *slot* the slot or the ETA.
    """

    message_id: str
    state: str
    reason: str
    refusals: int
    claimed: datetime
    entry: str
    task: str
    task_id: str
    mid: str
    slot: datetime | None
    destination: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxMessageDetails:
    """All of a message; *args* and *kwargs* are None when this process may not, or cannot, decode them."""

    message: OutboxMessage
    headers: Mapping[str, Any]
    properties: Mapping[str, Any]
    args: Sequence[Any] | None
    kwargs: Mapping[str, Any] | None


class OutboxControl:
    """The verbs, and what they are about."""

    def __init__(self, app: Any, messages: RefusedMessages, letters: DeadLetters) -> None:
        self.app = app
        self._messages = messages
        self._letters = letters

    def troubled(self, limit: int = SHOWN_AT_MOST) -> list[OutboxMessage]:
        """Return up to *limit* messages that the broker refused, the buried ones first, and the oldest first among them."""
        ids = [*self._messages.buried_ids(), *self._messages.waiting_ids()]
        return [_view(found, _envelope(found)) for found in self._messages.read(ids[:limit])]

    def buried_ids(self) -> list[str]:
        """Return the ids of all buried messages, the oldest first."""
        return self._messages.buried_ids()

    def show(self, message_id: str) -> OutboxMessageDetails:
        """Return all of one message; raises `UnknownMessage`."""
        (found,) = self._found([message_id])
        envelope = _envelope(found)
        args, kwargs = self._arguments(envelope)
        return OutboxMessageDetails(
            message=_view(found, envelope),
            headers=envelope.headers if envelope else {},
            properties=envelope.properties if envelope else {},
            args=args,
            kwargs=kwargs,
        )

    def check(self, message_ids: Iterable[str]) -> None:
        """Raise `UnknownMessage` for the first of *message_ids* that is not buried."""
        self._buried(message_ids)

    def requeue(self, message_ids: Iterable[str]) -> int:
        """Put buried messages back into the outbox; return how many, for somebody else may have been first.

        Raises `UnknownMessage` when one of them is not buried, and touches none then.
        """
        requeued = self._messages.requeue(self._buried(message_ids))
        self._drop_letters(requeued, counted="requeued")
        return len(requeued)

    def discard(self, message_ids: Iterable[str]) -> int:
        """Throw buried messages away, and make their results REVOKED; return how many, for somebody else may have been first.

        Raises `UnknownMessage` when one of them is not buried, and touches none then.
        """
        discarded = self._messages.discard(self._buried(message_ids))
        self._drop_letters(discarded, counted="purged")
        announce(self.app, [envelope for found in discarded if (envelope := _envelope(found)) is not None and envelope.task_id])
        return len(discarded)

    def _drop_letters(self, found: Sequence[RefusedMessage], *, counted: str) -> None:
        """Let the dead letters of messages go that are no longer in the quarantine."""
        envelopes = [envelope for message in found if (envelope := _envelope(message)) is not None]
        letter_ids = [letter_id for envelope in envelopes if (letter_id := letter_id_of_headers(envelope.headers))]
        self._letters.drop(letter_ids, counted=counted)

    def _buried(self, message_ids: Iterable[str]) -> list[RefusedMessage]:
        found = self._found(list(dict.fromkeys(message_ids)))
        waiting = next((message for message in found if not message.buried), None)
        if waiting is not None:
            raise UnknownMessage(waiting.claim_id, "is not buried: it waits in the outbox and will be tried again")
        return found

    def _found(self, message_ids: Sequence[str]) -> list[RefusedMessage]:
        found = self._messages.read(message_ids)
        missing = [message_id for message_id in message_ids if message_id not in {message.claim_id for message in found}]
        if missing:
            raise UnknownMessage(missing[0], "is not among those that the broker refused")
        return found

    def _arguments(self, envelope: Envelope | None) -> tuple[Sequence[Any] | None, Mapping[str, Any] | None]:
        if envelope is None:
            return None, None
        try:
            request = request_of(self.app, envelope)
        except Exception:  # whatever a serializer may raise: the rest can be shown all the same
            return None, None
        return request.args, request.kwargs


def _envelope(found: RefusedMessage) -> Envelope | None:
    """Return the message as an envelope, None for one that cannot be read."""
    try:
        return read_envelope(found.message)
    except MalformedRecord:
        return None


def _view(found: RefusedMessage, envelope: Envelope | None) -> OutboxMessage:
    headers, why = envelope.headers if envelope else {}, found.why
    at_ms = headers.get("tw_slot") or headers.get("tw_eta")
    return OutboxMessage(
        message_id=found.claim_id,
        state="buried" if found.buried else "refused",
        reason=str(why.get("reason") or ""),
        refusals=int(why.get("refusals") or why.get("count") or 0),
        claimed=from_ms(found.claimed_ms),
        entry=str(headers.get("periodic_task_name") or ""),
        task=str(headers.get("task") or ""),
        task_id=envelope.task_id if envelope else "",
        mid=envelope.mid if envelope else "",
        slot=from_ms(at_ms) if isinstance(at_ms, int) else None,
        destination=envelope.destination if envelope else "",
    )
