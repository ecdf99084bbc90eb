"""Identity: the ids that make one slot's message, or one send, recognisable wherever and however often it turns up."""

from hashlib import sha1
from os import urandom
from uuid import NAMESPACE_URL, uuid5


class FireIds:
    """Fire ids of one namespace: uuid5 (RFC 9562, 5.5) of entry id, slot and generation, so that a re-sent slot has the same id."""

    def __init__(self, namespace: str) -> None:
        self._seed = uuid5(NAMESPACE_URL, f"celery-tw:{namespace}").bytes

    def fire_id(self, entry_id: int, slot_ms: int, generation: int = 0) -> str:
        """Return the fire id, which is also the Celery task id of a recurring fire."""
        name = b"%d:%d:%d" % (entry_id, slot_ms, generation)
        return _uuid(sha1(self._seed + name, usedforsecurity=False).digest(), version=5)


def random_id() -> str:
    """Return an id that nothing else has: a random UUID (RFC 9562, 5.4).

    It is asked of the system each time: numbers kept in store would be given twice by the copies of a process that was snapshotted.
    """
    return _uuid(urandom(16), version=4)


def _uuid(octets: bytes, *, version: int) -> str:
    """Return the text of the UUID of that *version* that the first 16 *octets* make, as `UUID` does in a multiple of the time."""
    digits = bytearray(octets)
    digits[6] = digits[6] & 0x0F | version << 4
    digits[8] = digits[8] & 0x3F | 0x80  # the variant
    text = digits.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:32]}"
