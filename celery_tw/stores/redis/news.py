"""News: the stream that tells schedulers what changed, numbered without gaps by the scripts that write it.

A reader that finds a number missing (the stream was trimmed, the data rolled back) has missed something and says so; it then reads the
timetable again instead of trusting what it heard.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.redis.scripts import RedisClient, translated_errors

_NUMBER = re.compile(rb"\d{1,18}")
_ENTRIES = re.compile(rb"\d{1,18}:\d{0,15}(,\d{1,18}:\d{0,15})*")


@dataclass(frozen=True, slots=True)
class News:
    """One piece of news. *kind* is ``entries`` (*what*: ``id:due`` pairs, no due when it left), ``backlog`` or ``resigned``."""

    number: int
    kind: str
    what: str

    def entries(self) -> list[tuple[int, int | None]]:
        """Return the changed entries with their new due ms, None for one that left the timetable."""
        pairs = (pair.partition(":") for pair in self.what.split(","))
        return [(int(entry_id), int(due) if due else None) for entry_id, _, due in pairs]


class NewsReader:
    """A place in the stream."""

    def __init__(self, client: RedisClient, keys: Keys) -> None:
        self.client = client
        self.keys = keys
        self._position = b"$"
        self._number = -1

    def catch_up(self) -> None:
        """Go to the end of the stream; what comes later will be read."""
        with translated_errors("news"), self.client.pipeline(transaction=True) as pipe:
            pipe.xrevrange(self.keys.news, count=1).get(self.keys.news_seq)
            last, number = pipe.execute()
        self._position = last[0][0] if last else b"0-0"
        self._number = int(number or 0)

    def read(self, *, block_ms: int) -> tuple[list[News], bool]:
        """Return what is new, waiting up to *block_ms* for it, and whether something in between was missed."""
        with translated_errors("XREAD"):
            reply = self.client.xread({self.keys.news: self._position}, count=1000, block=block_ms)
        heard: list[News] = []
        missed = False
        for identity, fields in _items(reply):
            self._position = identity
            news = read_news(fields)
            if news is None:
                missed = True
                continue
            missed = missed or news.number != self._number + 1
            self._number = news.number
            heard.append(news)
        return heard, missed


def read_news(fields: Mapping[bytes, bytes]) -> News | None:
    """Return the piece of news in *fields*, or None when no script of ours can have written it."""
    number, kind, what = fields.get(b"n", b""), fields.get(b"kind", b""), fields.get(b"what", b"")
    if not _NUMBER.fullmatch(number) or (kind == b"entries" and not _ENTRIES.fullmatch(what)):
        return None
    return News(int(number), kind.decode(errors="replace"), what.decode(errors="replace"))


def _items(reply: object) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """Return the items of an XREAD reply, which is a list in RESP2 and a mapping in RESP3."""
    if not reply:
        return []
    if isinstance(reply, dict):
        (items,) = reply.values()
        return items[0] if items and isinstance(items[0], list) else items
    return reply[0][1]  # type: ignore[index,no-any-return]
