"""Messages: what the simulation's messages look like in a queue, and how they are read there.

What goes to the plain queue is a line of text. What goes to the fair queue is an envelope, because a fire that waits in a lane is stored
by what its envelope says; the line of text is its body.
"""

import json
from collections.abc import Mapping
from typing import Any

from celery_tw.core.sequence import HEADER, MARK, TEXT

QUEUE = b"queue"
FAIR = b"fair"
TASK = "sim.tick"


def marked(text: str) -> bytes:
    """Return a message for the plain queue that gets its number when it is handed over."""
    return text.encode() + b" " + TEXT


def enveloped(text: str, *, task_id: str, mid: str, lane: str, number: str | None = MARK) -> bytes:
    """Return a message for the fair queue; without a *number* it is one that no leader hands over."""
    headers: Mapping[str, Any] = {"task": TASK, "id": task_id, "tw_mid": mid, "tw_lane": lane} | (
        {} if number is None else {HEADER: number}
    )
    record = {
        "body": text,
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers,
        "properties": {"delivery_info": {"exchange": "", "routing_key": FAIR.decode()}},
    }
    return json.dumps(record).encode()


def is_enveloped(raw: bytes) -> bool:
    """Return whether a message is for the fair queue."""
    return raw.startswith(b"{")


def text_of(raw: bytes) -> str:
    """Return the line of text of a message."""
    return json.loads(raw)["body"] if is_enveloped(raw) else raw.rsplit(maxsplit=2)[0].decode()


def number_of(raw: bytes) -> int | None:
    """Return the number of a message in a queue, None when it went there past the leader."""
    if is_enveloped(raw):
        return json.loads(raw)["headers"].get(HEADER)  # type: ignore[no-any-return]
    return int(raw.rsplit(maxsplit=1)[1])
