"""Identity: the ids that make one slot's message recognisable wherever and however often it turns up."""

from hashlib import sha1
from uuid import NAMESPACE_URL, uuid5


class FireIds:
    """Fire ids of one namespace: uuid5 (RFC 9562, 5.5) of entry id, slot and generation, so that a re-sent slot has the same id."""

    def __init__(self, namespace: str) -> None:
        self._seed = uuid5(NAMESPACE_URL, f"celery-tw:{namespace}").bytes

    def fire_id(self, entry_id: int, slot_ms: int, generation: int = 0) -> str:
        """Return the fire id, which is also the Celery task id of a recurring fire."""
        name = b"%d:%d:%d" % (entry_id, slot_ms, generation)
        digest = bytearray(sha1(self._seed + name, usedforsecurity=False).digest())
        digest[6] = digest[6] & 0x0F | 0x50  # version 5, and below the variant: what UUID(version=5) does, in a sixth of the time
        digest[8] = digest[8] & 0x3F | 0x80
        text = digest.hex()
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:32]}"
