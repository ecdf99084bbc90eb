"""Retention: dead letters are kept for ``tw_dlq_expires``, and within ``tw_dlq_max_bytes``.

The leader looks every few seconds. What has expired goes quietly. For their bytes the oldest go, and never unannounced: from four fifths of
the limit on an alarm is given once an hour, and nothing is dropped before the first. At most `AT_A_TIME` letters go in a step.
"""

import logging

from celery_tw.clock import Clock, RedisTime
from celery_tw.errors import StaleEpoch
from celery_tw.events import dead_letters_dropping
from celery_tw.leadership.elector import Elector
from celery_tw.stores.redis.dead_letters import DeadLetters, Letter, Totals

logger = logging.getLogger(__name__)

LOOK_MS = 10_000
SOON_MS = 100
STAND_BY_MS = 1000
AT_A_TIME = 200
ALARM_AT = 0.8
ALARM_AGAIN_MS = 3_600_000


class Retention:
    """Drops dead letters while *elector* leads."""

    def __init__(
        self, *, letters: DeadLetters, elector: Elector, clock: Clock, redis_time: RedisTime, expires_ms: int, max_bytes: int
    ) -> None:
        self.letters = letters
        self.elector = elector
        self.clock = clock
        self.redis_time = redis_time
        self.expires_ms = expires_ms
        self.max_bytes = max_bytes
        self._alarmed_ms: int | None = None
        self._next_ms = 0

    def step(self) -> int:
        """Look once, if it is time; return in how many ms to call again."""
        term, now_ms = self.elector.trusted_term(), self.clock.boot_ms()
        if term is None:
            return STAND_BY_MS
        if now_ms < self._next_ms:
            return self._next_ms - now_ms
        try:
            wait_ms = SOON_MS if self._sweep(term.epoch, now_ms) else LOOK_MS
        except StaleEpoch as error:
            logger.info("the dead letters are another leader's to look after: %s", error)
            wait_ms = STAND_BY_MS
        self._next_ms = now_ms + wait_ms
        return wait_ms

    def _sweep(self, epoch: int, now_ms: int) -> bool:
        """Drop what is to go; return whether there may be more."""
        totals = self.letters.totals()
        if not totals.letters:
            return False
        oldest = self.letters.oldest(AT_A_TIME)
        if self._expire(epoch, oldest):
            return True
        if totals.size < ALARM_AT * self.max_bytes:
            self._alarmed_ms = None
            return False
        if self._alarmed_ms is None or now_ms - self._alarmed_ms >= ALARM_AGAIN_MS:
            self._alarmed_ms = now_ms
            self._alarm(totals)
            return totals.size > self.max_bytes
        return totals.size > self.max_bytes and self._drop(epoch, oldest, totals)

    def _expire(self, epoch: int, oldest: list[Letter]) -> int:
        latest_ms = self.redis_time.now_ms() - self.expires_ms
        expired = [letter.letter_id for letter in oldest if letter.last_ms <= latest_ms]
        if not expired:
            return 0
        count, _ = self.letters.drop(expired, counted="expired", epoch=epoch, latest_ms=latest_ms)
        logger.info("%d dead letters have expired", count)
        return count

    def _drop(self, epoch: int, oldest: list[Letter], totals: Totals) -> bool:
        excess, chosen = totals.size - self.max_bytes, []
        for letter in oldest:
            if excess <= 0:
                break
            chosen.append(letter)
            excess -= letter.size
        latest_ms = chosen[-1].last_ms
        count, freed = self.letters.drop([letter.letter_id for letter in chosen], counted="dropped", epoch=epoch, latest_ms=latest_ms)
        logger.error("%d dead letters (%d bytes) were dropped: there are more than tw_dlq_max_bytes allows", count, freed)
        dead_letters_dropping.send(sender=self, count=count, bytes=freed, reason="dropped")
        return excess > 0

    def _alarm(self, totals: Totals) -> None:
        share = 100 * totals.size / self.max_bytes
        logger.error(
            "%d dead letters take %d bytes, %.0f %% of tw_dlq_max_bytes: replay or purge some, for beyond it the oldest are dropped",
            totals.letters,
            totals.size,
            share,
        )
        dead_letters_dropping.send(sender=self, count=totals.letters, bytes=totals.size, reason="nearly full")
