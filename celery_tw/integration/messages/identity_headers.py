"""Identity headers: what a message says of itself besides Celery's own headers. All times are int UTC ms.

===========  ==========================================================================================================
``tw_mid``   one logical send: fresh for each, kept by every copy of it (a broker's redelivery, a second publish)
``tw_eta``   when a deferred task was due; its ``eta`` is empty, because it waits nowhere but in the timetable
``tw_slot``  the slot that a fire of an entry is for
``tw_seq``   a number that grows with each message that the leaders hand over (``core/sequence.py``); what leaves otherwise has none
``tw_lane``  how urgent a task is where its queue is shared: high, medium or low; what it was sent as, however long it waits
===========  ==========================================================================================================

``tw_after`` is the mid of the run whose retry a send is.
``tw_once_more`` is the message's own mid when it was sent once more because it came to nobody (``scheduler/resending.py``).
``tw_first`` is when a task was first sent whose retries end with its age, and ``tw_snoozes`` how often a task has put itself off
(``runs/retrying.py``, ``runs/snoozing.py``).
``tw_generation`` counts the replays of a dead letter, and ``tw_replay_of`` names the letter that a task is the replay of
(``dlq/replaying.py``).
``tw_counted`` stands in the fires of an entry that may not overlap: the workers say when such a task begins and ends
(``runs/counting.py``).
``periodic_task_name``, which other schedulers write as well, is the entry's name.

A retry inherits the headers of the run before it. It is a new send, so its mid is new, and no older ETA or number stays with it; the slot
and the lane stay, because they are what the task works on, and how urgent that is.
"""

from collections.abc import Mapping
from typing import Any

from celery_tw.core.sequence import HEADER, MARK

MID = "tw_mid"
ETA = "tw_eta"
AFTER = "tw_after"
ONCE_MORE = "tw_once_more"
FIRST = "tw_first"
SNOOZES = "tw_snoozes"
SLOT = "tw_slot"
SEQUENCE = HEADER
LANE = "tw_lane"
COUNTED = "tw_counted"
GENERATION = "tw_generation"
REPLAY_OF = "tw_replay_of"
ENTRY = "periodic_task_name"


def identified(headers: Mapping[str, Any] | None, mid: str) -> dict[str, Any]:
    """Return *headers* as those of a new send with that *mid*."""
    if not headers:
        return {MID: mid}
    fresh = {**headers, MID: mid}
    fresh.pop(ETA, None)
    fresh.pop(SEQUENCE, None)
    return fresh


def unnumbered(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Return *headers* for a message that has no number, and gets none."""
    return {name: value for name, value in headers.items() if name != SEQUENCE}


def to_be_numbered(headers: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return *headers* of a message that a leader will hand over, if it is a task, with the mark that its number will take the place of."""
    return {**headers, SEQUENCE: MARK} if headers and "task" in headers else headers
