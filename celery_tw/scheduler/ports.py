"""Ports: what the engine asks of the floor above it, which knows Celery."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from celery_tw.core.command import Command, Fire
from celery_tw.core.definition import Definition
from celery_tw.core.recurrence import Recurrence
from celery_tw.stores.redis.envelope import Envelope


class Rendering(Protocol):
    """An entry's message, ready but for the slot. *timeless* tells that it does not matter when it is rendered."""

    timeless: bool

    def commands(self, fire: Fire) -> list[Command]: ...


@dataclass(frozen=True, slots=True)
class Prepared:
    """A definition brought to life in this process: when it is due, and what it sends."""

    definition: Definition
    recurrence: Recurrence
    rendering: Rendering


class Workshop(Protocol):
    """Turns definitions into recurrences and messages."""

    def prepare(self, definition: Definition) -> Prepared:
        """Raises an error of celery-tw when this process cannot fire the definition."""
        ...

    def fingerprint(self) -> object:
        """Return a value that changes when messages prepared earlier are no longer right."""
        ...

    def broker_fingerprint(self) -> str:
        """Return the fingerprint of the broker that one-time tasks have to be rendered for."""
        ...

    def render_again(self, record: bytes) -> bytes:
        """Return a one-time task's record, rendered for the present broker."""
        ...


Verdict = Literal["confirmed", "refused", "unroutable", "unknown"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a published message; *reason* is the broker's.

    ``refused`` and ``unroutable`` mean that no queue has it. ``unknown`` means that the answer did not come: it may be there or not.
    """

    verdict: Verdict
    reason: str = ""


class Publisher(Protocol):
    """Hands messages to the broker and waits until it has taken them; for one thread."""

    def open(self) -> None:
        """Connect if that is needed; raises `BrokerUnavailable`."""
        ...

    def publish(self, envelopes: Sequence[Envelope], *, meanwhile: Callable[[], None] = lambda: None) -> list[Outcome]:
        """Publish *envelopes* in their order, through the connection that is open; return what became of each.

        *meanwhile* is called at most once, when all are written and the broker is at work; it raises nothing.
        """
        ...

    def close(self) -> None: ...


class QueueLengths(Protocol):
    """Looks into the broker's queues; for one thread."""

    def measure(self, queues: Sequence[str]) -> dict[str, int]:
        """Return how many messages are in each of *queues*, 0 for one that there is not; without those whose keys hold something else.

        Raises `BrokerUnavailable`.
        """
        ...

    def close(self) -> None: ...


class Installer(Protocol):
    """Writes the settings entries into the timetable when a term begins."""

    def install(self) -> None: ...
