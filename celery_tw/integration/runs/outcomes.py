"""Outcomes: what the record of a run says that its body has come to, until that has been passed on.

===========  ==========================================================  ======================================================
outcome      written                                                     who finds it in the place of a process that died
===========  ==========================================================  ======================================================
`Returned`   when the body has returned, as JSON                         returns it, and Celery passes it on
`Retries`    before the body's retry is sent                             sends the retry, with the mid that the first had, so it
                                                                         runs once, whether the first was sent or not
`Unshown`    when the body has returned what has no JSON form, or is     takes the result from the backend if it got that far,
             too large                                                   and fails otherwise
===========  ==========================================================  ======================================================

None of them runs the body again. A retry whose arguments have no JSON form is not written down: its body would run again.
"""

from dataclasses import dataclass
from typing import Any

from kombu.utils.json import dumps, loads

LARGEST = 256 * 1024
_RETRIES, _UNSHOWN = b"\0retries\n", b"\0unshown\n"
"""No JSON begins so."""


@dataclass(frozen=True, slots=True)
class Returned:
    """The body has returned *value*."""

    value: Any

    def write(self) -> bytes | None:
        """Return the outcome as a record keeps it, or None when it has no JSON form or is too large."""
        return _encoded(self.value)


@dataclass(frozen=True, slots=True)
class Retries:
    """The body asks to be run again, by this send of its task."""

    task_id: str
    args: Any
    kwargs: Any
    options: Any

    def write(self) -> bytes | None:
        """Return the outcome as a record keeps it, or None when it has no JSON form or is too large."""
        encoded = _encoded([self.task_id, self.args, self.kwargs, self.options])
        return None if encoded is None else _RETRIES + encoded


@dataclass(frozen=True, slots=True)
class Unshown:
    """The body has returned something that cannot be put on record; *kind* says what."""

    kind: str

    def write(self) -> bytes:
        """Return the outcome as a record keeps it."""
        return _UNSHOWN + self.kind.encode()


def read_outcome(record: bytes) -> Returned | Retries | Unshown:
    """Return what *record* says."""
    if record.startswith(_RETRIES):
        return Retries(*loads(record.removeprefix(_RETRIES)))
    if record.startswith(_UNSHOWN):
        return Unshown(record.removeprefix(_UNSHOWN).decode(errors="replace"))
    return Returned(loads(record))


def _encoded(value: Any) -> bytes | None:
    try:
        encoded: bytes = dumps(value).encode()
    except (TypeError, ValueError, RecursionError):
        return None
    return encoded if len(encoded) <= LARGEST else None
