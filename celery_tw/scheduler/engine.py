"""Engine: the leader's work, a bounded step at a time.

`step` does, in this order: hear the news, read one page of the timetable, ask once a second what the wheel may have missed, take what is
nearly due in hand and prepare it, fire one batch, and when nothing live waits give the backlogs a turn. It returns after how many ms it
has to be called again, 0 when there is more to do at once. One thread calls it; others only put news into the mailbox.

A new term, a gap in the news, rolled-back data or a clock set back all lead to the same place: `reset`, and a wheel filled again from the
timetable.
"""

import logging
from collections import deque
from collections.abc import Callable

from celery_tw.clock import Clock, RedisTime
from celery_tw.errors import StaleEpoch, StoreRefused, StoreUnavailable
from celery_tw.leadership.elector import Elector
from celery_tw.scheduler.admission import Admission
from celery_tw.scheduler.backlog import Backlogs
from celery_tw.scheduler.dispatch import BATCH, Dispatch
from celery_tw.scheduler.entries import Entries
from celery_tw.scheduler.gauges import Gauges
from celery_tw.scheduler.holding import Holding
from celery_tw.scheduler.horizon import Horizon
from celery_tw.scheduler.ports import Installer
from celery_tw.scheduler.upcoming import LOOK_AHEAD_MS, Upcoming
from celery_tw.stores.redis.dispatching import Dispatching
from celery_tw.stores.redis.keys import is_entry_id, is_one_time
from celery_tw.stores.redis.news import News

logger = logging.getLogger(__name__)

TAKE = 250
TAKE_BEHIND = 10_000
"""More at once when a herd is due, so that what comes after it in the wheel is in hand soon."""

POLL_MS = 1000
DRAIN_MS = 100
POLL_LIMIT = 500
LONGEST_POLL = 5000
BACKLOGS_A_TURN = 20
STAND_BY_MS = 1000
HELD_MS = 500
FULL_MS = 20
INSTALL_AGAIN_MS = 5000
SWEEP_MS = 60_000
SET_BACK_MS = 1000
"""How far Redis time has to fall behind itself before that is more than a slow reply's doing."""


class Engine:
    """What one scheduler does while it leads."""

    def __init__(
        self,
        *,
        elector: Elector,
        horizon: Horizon,
        upcoming: Upcoming,
        holding: Holding,
        entries: Entries,
        dispatch: Dispatch,
        backlogs: Backlogs,
        dispatching: Dispatching,
        installer: Installer,
        clock: Clock,
        redis_time: RedisTime,
        gauges: Gauges,
        admission: Admission,
        on_entered: Callable[[str], None],
    ) -> None:
        self.elector = elector
        self.horizon = horizon
        self.upcoming = upcoming
        self.holding = holding
        self.entries = entries
        self.dispatch = dispatch
        self.backlogs = backlogs
        self.dispatching = dispatching
        self.installer = installer
        self.clock = clock
        self.redis_time = redis_time
        self.gauges = gauges
        self.admission = admission
        self.on_entered = on_entered
        self.mailbox: deque[News] = deque()
        self.missed_news = True
        self._epoch: int | None = None
        self._poll_boot_ms = 0
        self._sweep_boot_ms = 0
        self._install_boot_ms: int | None = None

    def hear(self, heard: list[News], missed: bool) -> None:
        """Take news from the listening thread; *missed* tells that some were lost."""
        self.missed_news = self.missed_news or missed
        self.mailbox.extend(heard)

    def step(self) -> int:
        """Do a piece of the leader's work; return in how many ms to call again."""
        term = self.elector.trusted_term()
        if term is None:
            self._epoch = None
            self.missed_news = True
            self.mailbox.clear()
            return STAND_BY_MS
        if term.epoch != self._epoch:
            self._take_office(term.epoch)
        try:
            return self._lead(term.epoch)
        except StaleEpoch as error:
            logger.warning("a write was refused: %s", error)
            self._epoch = None
            return STAND_BY_MS
        except StoreUnavailable:
            self.missed_news = True
            raise

    def _take_office(self, epoch: int) -> None:
        self._install()
        self.missed_news = True
        self.dispatch.take_office(epoch)
        self._epoch = epoch

    def _install(self) -> None:
        """Bring the settings in; when Redis refuses them, what is stored goes on and they are tried again later."""
        try:
            self.installer.install()
            self._install_boot_ms = None
        except StoreRefused as error:
            self._install_boot_ms = self.clock.boot_ms() + INSTALL_AGAIN_MS
            logger.error("the settings entries are not in the timetable yet, tried again in %d s: %s", INSTALL_AGAIN_MS // 1000, error)

    def _lead(self, epoch: int) -> int:
        now_ms = self.redis_time.now_ms()
        if now_ms < self.gauges.now_ms - SET_BACK_MS:  # what is kept back waits by the clock as it was
            self.missed_news = True
        self.gauges.now_ms = now_ms
        self._read_news(now_ms)
        more = self.horizon.extend(now_ms)
        if self.elector.dispatch_held:
            return HELD_MS
        idle = self._take_in_hand(now_ms)
        members = self._poll(now_ms) if idle else []
        fired = self.dispatch.fire_due(now_ms)
        if fired < BATCH and members:
            self.backlogs.drain(epoch, members, now_ms, go_on=self._nothing_live)
            self._poll_boot_ms = self.clock.boot_ms() - POLL_MS + DRAIN_MS
        admitted_more = self.admission.admit(epoch, now_ms)
        if self.dispatch.full and not more:
            return FULL_MS
        return 0 if more or fired or admitted_more or not idle else self._wait_ms()

    def reset(self, now_ms: int) -> None:
        """Start over with an empty wheel."""
        self.missed_news = False
        self.mailbox.clear()
        self.entries.clear()
        self.upcoming.clear()
        self.horizon.reset(now_ms)
        self._poll_boot_ms = 0

    def _read_news(self, now_ms: int) -> None:
        if self.missed_news or self.horizon.overfull():
            self.reset(now_ms)
        while self.mailbox:
            news = self.mailbox.popleft()
            if news.kind == "entries":
                for entry_id, due_ms in news.entries():
                    self._hear_of(entry_id, due_ms)
            elif news.kind == "backlog":
                self._poll_boot_ms = 0
            elif news.kind == "lanes":
                self.on_entered(news.what)

    def _hear_of(self, entry_id: int, due_ms: int | None) -> None:
        self.entries.forget(entry_id)
        if due_ms is not None:
            self.holding.hold(entry_id, due_ms)

    def _take_in_hand(self, now_ms: int) -> bool:
        """Take what is nearly due out of the wheel and prepare it; return whether nothing overdue is left in the wheel."""
        wheel_ms = self.horizon.next_ms()
        behind = wheel_ms is not None and wheel_ms <= now_ms
        taken = self.horizon.take(now_ms + LOOK_AHEAD_MS, limit=TAKE_BEHIND if behind else TAKE)
        for due_ms, entry_id in taken:
            self.upcoming.add(entry_id, due_ms)
        ahead = [entry_id for due_ms, entry_id in taken if due_ms > now_ms and not is_one_time(entry_id)]
        self.dispatch.prepare(ahead[:TAKE])
        wheel_ms = self.horizon.next_ms()
        return wheel_ms is None or wheel_ms > now_ms + LOOK_AHEAD_MS

    def _poll(self, now_ms: int) -> list[bytes]:
        """Once a second, ask for what is overdue and not in hand; return the backlogs whose turn it is."""
        boot_ms = self.clock.boot_ms()
        first_ms = self.upcoming.next_ms()
        if boot_ms - self._poll_boot_ms < POLL_MS or (first_ms is not None and first_ms <= now_ms):
            return []
        self._poll_boot_ms = boot_ms
        self.entries.drop_outdated()
        if self._install_boot_ms is not None and boot_ms >= self._install_boot_ms:
            self._install()
        self._sweep(boot_ms)
        limit = min(POLL_LIMIT + self.upcoming.overdue(now_ms), LONGEST_POLL)
        pairs, members = self.dispatching.poll(now_ms=now_ms, limit=limit, backlogs=BACKLOGS_A_TURN)
        for due_ms, member in pairs:
            if not is_entry_id(member, due_ms):
                self.horizon.on_bad_member(member)
            elif not self.upcoming.holds(int(member), due_ms):
                self.entries.forget(int(member))
                self.upcoming.add(int(member), due_ms)
        return members

    def _sweep(self, boot_ms: int) -> None:
        """Once a minute, remove what no waiting task needs any more; in the next second go on, if there was a lot of it."""
        if boot_ms >= self._sweep_boot_ms and self._epoch is not None:
            swept = self.dispatching.sweep_templates(self._epoch, fair_queues=self.admission.admitting.lanes.queues())
            self._sweep_boot_ms = boot_ms + (0 if swept else SWEEP_MS)

    def _nothing_live(self) -> bool:
        first_ms = self.upcoming.next_ms()
        return not self.mailbox and not self.dispatch.full and (first_ms is None or first_ms > self.redis_time.now_ms())

    def _wait_ms(self) -> int:
        """Return how long nothing is to be done."""
        now_ms = self.redis_time.now_ms()
        next_poll_ms = self._poll_boot_ms + POLL_MS - self.clock.boot_ms()
        first_ms, wheel_ms = self.upcoming.next_ms(), self.horizon.next_ms()
        waits = [next_poll_ms]
        if first_ms is not None:
            waits.append(first_ms - now_ms)
        if wheel_ms is not None:
            waits.append(wheel_ms - LOOK_AHEAD_MS - now_ms)
        return max(0, min(waits))
