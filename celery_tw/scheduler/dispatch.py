"""Dispatch: fire what is due.

Entries are fired in batches of at most `BATCH`, one script call each, and the next batch is prepared while Redis works on the last.
Recurring entries are decided in Python (``recurring.py``), one-time tasks bring their own messages (``one_time.py``). Either way
the script compares and answers for each entry apart:

========  =====================================================================================================
fired     the slot is decided; the entry waits for its next one
moved     somebody changed the entry meanwhile, or a repeated call had been carried out: it is read again
early     Redis time says not yet (the estimate ran ahead by a millisecond or two): it waits that long
refused   the queue key cannot take a message: the entry is kept back, counted and reported, and harms no other
========  =====================================================================================================

When no answer comes, all that is under way goes back in hand: what was carried out after all will answer *moved*.
"""

from collections import deque
from collections.abc import Callable, Sequence

from celery_tw.failpoints import failpoint
from celery_tw.scheduler.entries import Entries
from celery_tw.scheduler.one_time import OneTimeFlight, OneTimeTasks
from celery_tw.scheduler.recurring import RecurringEntries, RecurringFlight
from celery_tw.scheduler.refusals import Refusals
from celery_tw.scheduler.upcoming import Upcoming
from celery_tw.stores.redis.keys import is_one_time
from celery_tw.stores.redis.line import Line

BATCH = 250
BATCHES_A_STEP = 8
UNDER_WAY = 2
"""How many calls may wait for their answers: one that Redis works on, and one that it finds when it has done so."""

Flight = OneTimeFlight | RecurringFlight


class Dispatch:
    """Fires batches taken from *upcoming* through the connection *line*; *room* tells what the outbox takes, if there is one."""

    def __init__(
        self,
        *,
        upcoming: Upcoming,
        entries: Entries,
        one_time: OneTimeTasks,
        recurring: RecurringEntries,
        refusals: Refusals,
        line: Line,
        room: Callable[[], int] | None = None,
    ) -> None:
        self.upcoming = upcoming
        self.entries = entries
        self.one_time = one_time
        self.recurring = recurring
        self.refusals = refusals
        self.line = line
        self.room = room
        self.full = False

    def take_office(self, epoch: int) -> None:
        """Fire under the term of *epoch* from now on."""
        self.one_time.epoch = self.recurring.epoch = self.refusals.epoch = epoch

    def prepare(self, entry_ids: Sequence[int]) -> None:
        """Do ahead what can be done ahead for recurring entries that are due soon."""
        self.recurring.prepare(entry_ids)

    def fire_due(self, now_ms: int) -> int:
        """Fire up to `BATCHES_A_STEP` batches of what is due at *now_ms*; return how many entries they held.

        Afterwards *full* tells whether more had to wait because the outbox has no room.
        """
        under_way: deque[Flight] = deque()
        taken, room = 0, BATCHES_A_STEP * BATCH if self.room is None else self.room()
        try:
            for _ in range(BATCHES_A_STEP):
                batch = self.upcoming.take(now_ms, limit=max(0, min(BATCH, room - taken)))
                if not batch:
                    break
                failpoint("K0")
                taken += len(batch)
                self._send(batch, now_ms, under_way)
            while under_way:
                self._settle_oldest(under_way)
            self.full = self.room is not None and taken >= room
        except Exception:
            self.line.drop()
            for flight in under_way:
                self._take_back(flight.batch)
            raise
        return taken

    def _send(self, batch: Sequence[tuple[int, int]], now_ms: int, under_way: deque[Flight]) -> None:
        one_time = [pair for pair in batch if is_one_time(pair[1])]
        recurring = [pair for pair in batch if not is_one_time(pair[1])]
        try:
            if one_time:
                under_way.append(self.one_time.send(one_time))
                one_time = []
            if recurring:
                under_way.append(self.recurring.send(recurring, now_ms))
        except Exception:
            self._take_back(one_time)
            self._take_back(recurring)
            raise
        while len(under_way) >= UNDER_WAY:
            self._settle_oldest(under_way)

    def _settle_oldest(self, under_way: deque[Flight]) -> None:
        flight = under_way[0]
        if isinstance(flight, OneTimeFlight):
            self.one_time.settle(flight)
        else:
            self.recurring.settle(flight)
        under_way.popleft()
        failpoint("K1")

    def _take_back(self, batch: Sequence[tuple[int, int]]) -> None:
        for due_ms, entry_id in batch:
            self.entries.forget(entry_id)
            if entry_id not in self.upcoming:
                self.upcoming.add(entry_id, due_ms)
