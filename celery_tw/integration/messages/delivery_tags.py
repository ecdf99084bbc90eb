"""Delivery tags: kombu's receipt numbers, which have to differ for every message that is ever in a queue."""

import os

BLOCK = 256
_LENGTH = 32


class DeliveryTags:
    """Random tags of 128 bits, cut from blocks of the system's randomness; a forked child begins a block of its own."""

    def __init__(self) -> None:
        self._pid = 0
        self._tags: list[bytes] = []

    def take(self) -> bytes:
        """Return a tag that was never returned before, 32 hexadecimal digits."""
        if self._pid != os.getpid():
            self._pid, self._tags = os.getpid(), []
        try:
            return self._tags.pop()
        except IndexError:
            self._tags.extend(_block())
            return self._tags.pop()


def _block() -> list[bytes]:
    digits = os.urandom(BLOCK * _LENGTH // 2).hex().encode()
    return [digits[first : first + _LENGTH] for first in range(0, len(digits), _LENGTH)]
