"""Bare loop: the limit of Redis for taking a stored message off a timetable and onto a queue, one script call per 500 messages.

Nothing is compared, fenced or recorded: GET, LPUSH, ZREM, DEL for each message and no more.
"""

from collections.abc import Sequence

import redis

CHUNK = 500
TIMETABLE = "bare:due"

SCRIPT = """
for i = 3, #KEYS do
  redis.call('LPUSH', KEYS[2], redis.call('GET', KEYS[i]))
  redis.call('ZREM', KEYS[1], ARGV[i - 2])
  redis.call('DEL', KEYS[i])
end
return #KEYS - 2
"""


def store(client: redis.Redis, messages: Sequence[bytes]) -> None:
    """Store *messages*, each under a key of its own and with a member in the timetable."""
    for first in range(0, len(messages), CHUNK):
        chunk = messages[first : first + CHUNK]
        with client.pipeline(transaction=False) as pipe:
            pipe.mset({_key(first + index): message for index, message in enumerate(chunk)})
            pipe.zadd(TIMETABLE, {str(first + index): first + index for index in range(len(chunk))})
            pipe.execute()


def run(client: redis.Redis, queue: str, *, count: int) -> None:
    """Move all *count* messages to *queue*."""
    script = client.register_script(SCRIPT)
    for first in range(0, count, CHUNK):
        numbers = range(first, min(first + CHUNK, count))
        script(keys=[TIMETABLE, queue, *map(_key, numbers)], args=[str(number) for number in numbers])


def _key(number: int) -> str:
    return f"bare:message:{number}"
