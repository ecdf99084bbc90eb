"""Records: the one-time tasks of one shard, read whole. How they are cut for Redis is in ``templates.py``."""

from collections.abc import Sequence

from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.redis.scripts import RedisClient, translated_errors
from celery_tw.stores.redis.templates import HEAD_LINES, join, template_id_of

KEPT = 1000


class Records:
    """Joins records with their templates, which never change: those that were read are kept, up to `KEPT`."""

    def __init__(self, client: RedisClient, keys: Keys) -> None:
        self.client = client
        self.keys = keys
        self._templates: dict[bytes, bytes] = {}

    def whole(self, records: Sequence[bytes | None]) -> list[bytes | None]:
        """Return stored *records* whole, in order; of one whose template is missing only the head, which nothing can be read from."""
        ids = [None if record is None else template_id_of(record) for record in records]
        templates = self._read({template_id for template_id in ids if template_id is not None})
        return [
            record if record is None or template_id is None else _joined(record, templates.get(template_id))
            for record, template_id in zip(records, ids, strict=True)
        ]

    def _read(self, template_ids: set[bytes]) -> dict[bytes, bytes]:
        missing = sorted(template_ids - self._templates.keys())
        if not missing:
            return self._templates
        with translated_errors("HMGET"):
            texts = self.client.hmget(self.keys.templates, missing)
        found = {template_id: text for template_id, text in zip(missing, texts, strict=True) if text is not None}
        known = {**self._templates, **found}
        self._templates = known if len(known) <= KEPT else found
        return known


def _joined(record: bytes, template: bytes | None) -> bytes:
    whole = None if template is None else join(record, template)
    return b"\n".join(record.split(b"\n", HEAD_LINES)[:HEAD_LINES]) if whole is None else whole
