"""Every error that celery-tw raises on purpose.

::

    CeleryTWError (celery.exceptions.CeleryError)
    ├── InvalidSchedule      an expression, interval, zone or moment that cannot be a schedule
    ├── InvalidEntry         a name, payload or option that an entry cannot have
    ├── InvalidLane          a word that is no lane
    ├── UnknownEntry         no entry of that name
    ├── UnknownMessage       no such message among those that the broker refused
    ├── UnknownDeadLetter    no dead letter of that id
    ├── MalformedMessage     a message that is none of Celery's, though its headers say that it is
    ├── RedeliveredTooOften  a message that takes its worker down each time
    ├── StaticEntry          the entry belongs to the settings and is edited there
    ├── StaleEpoch           a write by a process that no longer leads
    ├── StoreUnavailable     Redis did not answer; nothing is known about the write
    │   └── DatabaseUnavailable  the SQL database did not answer, likewise
    ├── StoreRefused         Redis answered, and refused: out of memory, read-only, no permission
    ├── BrokerUnavailable    the broker cannot be reached, or takes no messages for now
    ├── ServerUnavailable    no embedded server could be found or started
    ├── NamespaceTaken       the namespace holds the timetable of another project
    ├── RenderFailed         Celery refused to send an entry's task, or had nowhere to send it
    ├── LockBusy             another run holds the lock of a task that is not to wait for it
    ├── LeaseLost            another process runs this run by now, or may
    ├── ResultNotKept        a result that could not be put on record, and whose process died before it had passed it on
    ├── InvalidCheckpoint    a checkpoint that cannot be written as JSON, or is too large
    ├── LeaderMissing        a long task was started while no scheduler leads
    ├── InvalidDag           a DAG, or a verb on a run of one, that cannot be
    │   └── DependencyCycle  nodes that wait for each other; `path` tells which
    ├── UnknownDagRun        no run of that id
    ├── UnknownNode          no node of that key in the run
    ├── MalformedRecord      a stored record that cannot be read
    └── NewerSchema          a stored record written by a newer celery-tw

Wrong settings are Celery's own ``ImproperlyConfigured``.

Two signals are no errors and no `Exception`, so that no ``except Exception`` and no ``autoretry_for`` in a body swallows them:
`TaskCancelled` and `TaskYielded`. They are for the body to pass on.
"""

from typing import Any

from celery.exceptions import CeleryError, ImproperlyConfigured

__all__ = [
    "BrokerUnavailable",
    "CeleryTWError",
    "DatabaseUnavailable",
    "DependencyCycle",
    "ImproperlyConfigured",
    "InvalidCheckpoint",
    "InvalidDag",
    "InvalidEntry",
    "InvalidLane",
    "InvalidSchedule",
    "LeaderMissing",
    "LeaseLost",
    "LockBusy",
    "MalformedMessage",
    "MalformedRecord",
    "NamespaceTaken",
    "NewerSchema",
    "RedeliveredTooOften",
    "RenderFailed",
    "ResultNotKept",
    "ServerUnavailable",
    "StaleEpoch",
    "StaticEntry",
    "StoreRefused",
    "StoreUnavailable",
    "TaskCancelled",
    "TaskYielded",
    "UnknownDagRun",
    "UnknownDeadLetter",
    "UnknownEntry",
    "UnknownMessage",
    "UnknownNode",
]


class CeleryTWError(CeleryError):
    """Base of all errors of celery-tw."""


class InvalidSchedule(CeleryTWError, ValueError):
    """Raised when an expression, interval, zone or moment cannot be a schedule."""


class InvalidEntry(CeleryTWError, ValueError):
    """Raised when an entry's name, payload or option is refused."""


class InvalidLane(CeleryTWError, ValueError):
    """Raised when a task is to go into a lane that is none of the three."""


class UnknownEntry(CeleryTWError, LookupError):
    """Raised when no entry of the given name exists."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no entry named {name!r}")
        self.name = name


class UnknownMessage(CeleryTWError, LookupError):
    """Raised when a message of the outbox is named that was not refused by the broker, or is not buried where it has to be."""

    def __init__(self, message_id: str, fact: str) -> None:
        super().__init__(f"the message {message_id!r} {fact}")
        self.message_id = message_id


class UnknownDeadLetter(CeleryTWError, LookupError):
    """Raised when no dead letter has the given id."""

    def __init__(self, letter_id: str) -> None:
        super().__init__(f"there is no dead letter {letter_id!r}: `celery tw dlq list --each` shows the ids of those there are")
        self.letter_id = letter_id


class MalformedMessage(CeleryTWError, ValueError):
    """Raised in the place of a task whose message is none of Celery's, though its headers say that it is."""


class RedeliveredTooOften(CeleryTWError):
    """Raised in the place of a task whose message came back too often after it had been started: it takes its worker down."""


class StaticEntry(CeleryTWError):
    """Raised when a settings entry is edited or removed by the API; it can only be paused."""

    def __init__(self, name: str) -> None:
        super().__init__(f"entry {name!r} comes from beat_schedule: change it in the settings, or pause it")
        self.name = name


class StaleEpoch(CeleryTWError):
    """Raised when a write carried the epoch of a leader that has been replaced."""


class StoreUnavailable(CeleryTWError):
    """Raised when Redis did not answer in time; the write may or may not have happened."""


class DatabaseUnavailable(StoreUnavailable):
    """Raised when the SQL database did not answer; the write may or may not have happened."""


class StoreRefused(CeleryTWError):
    """Raised when Redis answered and refused the write, so that nothing happened."""


class BrokerUnavailable(CeleryTWError):
    """Raised when the broker cannot be reached, or says that it takes no messages for now; nothing was sent."""


class ServerUnavailable(CeleryTWError):
    """Raised when an embedded server cannot be found or started."""


class NamespaceTaken(CeleryTWError):
    """Raised when the namespace in Redis belongs to another project."""


class RenderFailed(CeleryTWError):
    """Raised when Celery refused to send the task of an entry, or sent nothing."""

    def __init__(self, name: str, cause: BaseException | str) -> None:
        what = cause if isinstance(cause, str) else f"{type(cause).__name__}: {cause}"
        super().__init__(f"the message of entry {name!r} could not be made: {what}")
        self.name = name


class LockBusy(CeleryTWError):
    """Raised when a task with ``lock_busy="fail"`` finds its lock held."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the lock {key!r} is held by another run")
        self.key = key


class LeaseLost(CeleryTWError):
    """Raised when this process may no longer act for a run: another one has it, or Redis has not confirmed it for too long."""


class ResultNotKept(CeleryTWError):
    """Raised in the place of a result that could not be put on record, and whose process died before it had passed it on."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"the task ran, but its result ({kind}) has no JSON form or is larger than 256 KiB, and was not passed on in time")
        self.kind = kind

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.kind,)


class InvalidCheckpoint(CeleryTWError, ValueError):
    """Raised when a checkpoint cannot be written as JSON, or is larger than ``tw_checkpoint_max_bytes``."""


class LeaderMissing(CeleryTWError):
    """Raised when a long task is started while no scheduler leads, who alone could start it again elsewhere."""


class InvalidDag(CeleryTWError, ValueError):
    """Raised when a DAG cannot be run as it is written, or when a node or a run is not in a state for what is asked of it."""


class DependencyCycle(InvalidDag):
    """Raised when nodes wait for each other; *path* leads from one of them along the edges back to it."""

    def __init__(self, path: list[str]) -> None:
        shown = path if len(path) <= 20 else [*path[:10], "…", *path[-9:]]
        super().__init__(f"the dependencies go in a circle: {' → '.join(shown)}")
        self.path = path


class UnknownDagRun(CeleryTWError, LookupError):
    """Raised when no run of a DAG has the given id."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"there is no DAG run {run_id!r}")
        self.run_id = run_id


class UnknownNode(CeleryTWError, LookupError):
    """Raised when a run has no node of the given key."""

    def __init__(self, run_id: str, key: str) -> None:
        super().__init__(f"the DAG run {run_id} has no node {key!r}")
        self.run_id = run_id
        self.key = key


class TaskCancelled(BaseException):
    """Raised in the body of a task that is to stop, at each call that checks; the task ends REVOKED with the *reason*."""

    def __init__(self, reason: str = "cancelled") -> None:
        super().__init__(reason)
        self.reason = reason


class TaskYielded(BaseException):
    """Raised in the body of a long task whose worker shuts down, after its state has been saved; it goes on in another worker."""


class MalformedRecord(CeleryTWError, ValueError):
    """Raised when a stored record cannot be read."""


class NewerSchema(CeleryTWError):
    """Raised when a stored record was written by a newer version of celery-tw."""
