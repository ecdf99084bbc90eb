"""Lane keys: where a one-time task may wait that is not in ``due``, read from its record."""

import json
from collections.abc import Iterable

from celery_tw.stores.redis.codec import EXTRA_LINE
from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.redis.scripts import RedisClient, translated_errors


def lanes_of(keys: Keys, whole: bytes | None) -> list[str]:
    """Return the lanes of the fair queue that the *whole* record of a task is for; none if it is for another queue, or unreadable."""
    lines = (whole or b"").split(b"\n", EXTRA_LINE)
    if len(lines) <= EXTRA_LINE or b'"lane":' not in lines[EXTRA_LINE - 1]:
        return []
    try:
        queue = json.loads(lines[EXTRA_LINE - 1])["queue"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []
    return keys.lanes_of(str(queue))


def all_lanes(client: RedisClient, keys: Keys) -> list[str]:
    """Return the lanes of all queues in which something may wait."""
    with translated_errors("SMEMBERS"):
        return [lane for queue in sorted(client.smembers(keys.lanes)) for lane in keys.lanes_of(queue.decode())]


def lanes_of_all(keys: Keys, wholes: Iterable[bytes | None]) -> list[str]:
    """Return the lanes in which tasks with these *wholes* of records may wait, each once."""
    return list(dict.fromkeys(lane for whole in wholes for lane in lanes_of(keys, whole)))
