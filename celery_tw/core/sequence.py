"""Sequence: a number for each message that the leaders of a shard hand over, larger than all before it; the header ``tw_seq``.

A number is ``epoch * 2**20 + n``: the term's epoch, and how many messages the leader has handed over in it before. Epochs are milliseconds
of Redis time, or more, so a later term's numbers are larger as long as no term hands over 2**20 messages a millisecond, and Redis's clock
is not set back so far that a term begins with the epoch after the last one's. Numbers have gaps: one is drawn for each message that is
brought to Redis, whether it then goes out or not.

The number is known when a message is handed over, not when it is rendered. Until then the header holds a mark, which no message in a queue
does. In the JSON of a message it stands as `TEXT`.
"""

HEADER = "tw_seq"
MARK = "\0s"
TEXT = b'"tw_seq": "\\u0000s"'
NUMBERS_A_MS = 2**20


class Numbers:
    """The numbers of one shard, in the hands of its leader."""

    def __init__(self) -> None:
        self._epoch = 0
        self._given = 0

    def take(self, epoch: int, count: int) -> int:
        """Return the first of *count* numbers that were never given before in the term of *epoch*."""
        if epoch > self._epoch:
            self._epoch, self._given = epoch, 0
        first = epoch * NUMBERS_A_MS + self._given
        self._given += count
        return first


def numbered(payload: bytes, number: int) -> bytes:
    """Return a message with *number* in the place of its mark, if it has one."""
    return payload.replace(TEXT, b'"tw_seq": %d' % number)
