"""Death: what is known of a task that has failed for good, besides its message.

===============  =====================================================================================================
reason           what happened
===============  =====================================================================================================
``failed``       its body raised, after the last retry
``timed_out``    it met its soft or its hard time limit
``lost``         its processes were lost too often
``rejected``     it rejected its own message for good
``unregistered`` no task of that name is known to the worker
``disallowed``   its content type is not accepted, or what its headers say is no task
``undecodable``  its body cannot be decoded
``malformed``    its body is not ``[args, kwargs, embed]``
``redelivered``  its message came back too often after it had started: it takes its worker down
``refused``      the broker did not take its message
===============  =====================================================================================================
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from hashlib import blake2b
from typing import Any

from celery_tw.errors import MalformedRecord

FAILED = "failed"
TIMED_OUT = "timed_out"
LOST = "lost"
REJECTED = "rejected"
UNREGISTERED = "unregistered"
DISALLOWED = "disallowed"
UNDECODABLE = "undecodable"
MALFORMED = "malformed"
REDELIVERED = "redelivered"
REFUSED = "refused"

REASONS = (FAILED, TIMED_OUT, LOST, REJECTED, UNREGISTERED, DISALLOWED, UNDECODABLE, MALFORMED, REDELIVERED, REFUSED)

LONGEST_MESSAGE = 2_000
LONGEST_TRACEBACK = 16_000

_VARYING = re.compile(r"0x[0-9a-f]+|[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{16,}|\d+|'[^']*'|\"[^\"]*\"", re.IGNORECASE)
"""What differs from one occurrence of an error to the next: addresses, ids, numbers, quoted values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """The facts of one death; texts are '' where nothing is known, *generation* counts the replays that led here.

    *attempts* is how often the body was started for this send and the retries before it. *replay_of* is the dead letter that this task was
    a replay of. *claim* is the id of the message in the outbox, if the broker refused it.
    """

    reason: str
    task: str = ""
    task_id: str = ""
    mid: str = ""
    queue: str = ""
    generation: int = 0
    replay_of: str = ""
    exception: str = ""
    message: str = ""
    traceback: str = ""
    fingerprint: str = ""
    worker: str = ""
    attempts: int = 1
    group: str = ""
    chord: str = ""
    root: str = ""
    parent: str = ""
    claim: str = ""
    token: str = ""

    @property
    def occasion(self) -> str:
        """Return what two signals of one death have in common, and two deaths of one send have not."""
        return f"{self.worker} {self.exception or self.reason}"

    def write(self) -> bytes:
        """Return the facts as JSON, without those that say nothing."""
        known = {name: value for name in _FIELDS if (value := getattr(self, name)) not in ("", 0)}
        return json.dumps(known, separators=(",", ":")).encode()


_FIELDS = {each.name: int if each.type is int else str for each in fields(Death)}


def read_death(raw: bytes) -> Death:
    """Return the facts in *raw*; raises `MalformedRecord`. Facts that this version does not know are passed over."""
    try:
        found = json.loads(raw)
        known: dict[str, Any] = {name: kind(found[name]) for name, kind in _FIELDS.items() if name in found}
        return Death(**known)
    except (ValueError, TypeError, RecursionError) as error:
        raise MalformedRecord(f"what is known of a dead letter cannot be read: {error}") from error


def shortened(text: str, longest: int) -> str:
    """Return *text* with at most *longest* characters: its beginning and, which tells more of a traceback, its end."""
    if len(text) <= longest:
        return text
    head = longest // 4
    return f"{text[:head]}\n… {len(text) - longest:,} characters are left out …\n{text[head - longest :]}"


def error_fingerprint(task: str, exception: str, message: str, frames: Sequence[tuple[str, str]] = ()) -> str:
    """Return what the occurrences of one error have in common, as 16 hexadecimal digits.

    *frames* are the file and the function of each frame of the task's own code, the innermost last. Where there are none, the message
    stands for them, without what varies in it.
    """
    place = [f"{file}:{function}" for file, function in frames] or [_VARYING.sub("?", message[:LONGEST_MESSAGE])]
    return blake2b("\n".join([task, exception, *place]).encode(errors="replace"), digest_size=8).hexdigest()
