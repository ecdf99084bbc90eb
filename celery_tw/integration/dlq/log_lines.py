"""Log lines: a dead letter that could not be stored, as one line of the log, and back.

Whatever the logging puts before it on the line, the letter begins at `PREFIX`. The line holds the whole message, arguments included:
nothing else has it any more.
"""

import json
from collections.abc import Iterable, Iterator

from celery_tw.core.death import Death, read_death
from celery_tw.errors import MalformedRecord
from celery_tw.stores.redis.envelope import read_envelope

PREFIX = "TW-DEAD-LETTER "


def log_line(letter_id: str, message: bytes, death: Death) -> str:
    """Return a letter as one line."""
    return PREFIX + json.dumps({"v": 1, "id": letter_id, "death": death.write().decode(), "message": message.decode(errors="replace")})


def read_lines(lines: Iterable[str]) -> Iterator[tuple[str, bytes, Death] | None]:
    """Yield the id, the message and the death of each letter in *lines*, None for one that cannot be read; other lines are passed over."""
    for line in lines:
        _, found, text = line.partition(PREFIX)
        if found:
            yield _read(text)


def _read(text: str) -> tuple[str, bytes, Death] | None:
    try:
        record, _ = json.JSONDecoder().raw_decode(text)
        message = record["message"].encode()
        read_envelope(message)
        return str(record["id"]), message, read_death(record["death"].encode())
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, MalformedRecord):
        return None
