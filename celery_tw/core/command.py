"""Command: one thing a fire asks of the broker, in Redis's own words.

A plain message is one ``lpush`` of its envelope onto its queue's list. A fanout exchange is a ``publish``; a queue that expires adds a
``pexpire``. For a broker that is not the timetable's Redis a message is a ``claim``: its neutral envelope goes into the outbox. A canvas
may ask for several of them: they belong together and are carried out in one script or not at all. A ``count`` comes last, after the
messages of an entry that may not overlap: it notes a task, its payload, as one that has not ended.
"""

from dataclasses import dataclass
from typing import Literal

Operation = Literal["lpush", "publish", "pexpire", "claim", "count"]


@dataclass(frozen=True, slots=True)
class Command:
    """An *operation* on a Redis *key*; a claim's key only names the queue that the message is for.

    A message for a fair *queue* waits in its *lane* first, and the operation is what becomes of it then.
    """

    operation: Operation
    key: bytes
    payload: bytes
    queue: str = ""
    lane: str = ""

    @property
    def carries_a_message(self) -> bool:
        """Return whether the command by itself hands one message over, for one queue."""
        return self.operation in ("lpush", "claim")


@dataclass(frozen=True, slots=True)
class Fire:
    """One slot about to be handed to the broker: what makes its message this slot's and no other's.

    *counted* tells that the workers are to say when its tasks begin and end.
    """

    fire_id: str
    slot_ms: int
    entry_name: str
    counted: bool = False
