"""Every error that celery-tw raises on purpose.

::

    CeleryTWError (celery.exceptions.CeleryError)
    ├── InvalidSchedule      an expression, interval, zone or moment that cannot be a schedule
    ├── InvalidEntry         a name, payload or option that an entry cannot have
    ├── UnknownEntry         no entry of that name
    ├── StaticEntry          the entry belongs to the settings and is edited there
    ├── StaleEpoch           a write by a process that no longer leads
    ├── StoreUnavailable     Redis did not answer; nothing is known about the write
    ├── StoreRefused         Redis answered, and refused: out of memory, read-only, no permission
    ├── BrokerUnavailable    the broker cannot be reached, or takes no messages for now
    ├── ServerUnavailable    no embedded server could be found or started
    ├── NamespaceTaken       the namespace holds the timetable of another project
    ├── RenderFailed         Celery refused to send an entry's task, or had nowhere to send it
    ├── MalformedRecord      a stored record that cannot be read
    └── NewerSchema          a stored record written by a newer celery-tw

Wrong settings are Celery's own ``ImproperlyConfigured``.
"""

from celery.exceptions import CeleryError, ImproperlyConfigured

__all__ = [
    "BrokerUnavailable",
    "CeleryTWError",
    "ImproperlyConfigured",
    "InvalidEntry",
    "InvalidSchedule",
    "MalformedRecord",
    "NamespaceTaken",
    "NewerSchema",
    "RenderFailed",
    "ServerUnavailable",
    "StaleEpoch",
    "StaticEntry",
    "StoreRefused",
    "StoreUnavailable",
    "UnknownEntry",
]


class CeleryTWError(CeleryError):
    """Base of all errors of celery-tw."""


class InvalidSchedule(CeleryTWError, ValueError):
    """Raised when an expression, interval, zone or moment cannot be a schedule."""


class InvalidEntry(CeleryTWError, ValueError):
    """Raised when an entry's name, payload or option is refused."""


class UnknownEntry(CeleryTWError, LookupError):
    """Raised when no entry of the given name exists."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no entry named {name!r}")
        self.name = name


class StaticEntry(CeleryTWError):
    """Raised when a settings entry is edited or removed by the API; it can only be paused."""

    def __init__(self, name: str) -> None:
        super().__init__(f"entry {name!r} comes from beat_schedule: change it in the settings, or pause it")
        self.name = name


class StaleEpoch(CeleryTWError):
    """Raised when a write carried the epoch of a leader that has been replaced."""


class StoreUnavailable(CeleryTWError):
    """Raised when Redis did not answer in time; the write may or may not have happened."""


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


class MalformedRecord(CeleryTWError, ValueError):
    """Raised when a stored record cannot be read."""


class NewerSchema(CeleryTWError):
    """Raised when a stored record was written by a newer version of celery-tw."""
