"""Resending: sends the message of a long run once more that was sent again and comes to nobody.

A long run whose process was lost, or that yielded or was parked, waits for its message, and the broker alone has that once it was fired. On
Redis a worker that dies between taking a message off its queue and noting that it has it loses it: what was begun once would never be heard
of again. So such a run is awaited until a process has begun it. When none has for ``tw_heartbeat_timeout``, and the timetable has nothing
of it, its message is put there once more; then again after twice as long, and so on up to an hour.

A message that only takes its time, in a long queue say, is doubled by that, and whichever comes first begins the run. The record of the run
stays until it has ended, so a message that was sent once more, which says so, and that finds none has come too late; one that was not is
known for as long as ends are remembered (``tw_run_expires``). Of those that come to be parked one is kept.
"""

import logging
from collections.abc import Callable

from celery_tw.events import run_reassigned
from celery_tw.scheduler.pulses import BLIND_MS, Pulse, Pulses
from celery_tw.stores.redis.deferring import EntryIds
from celery_tw.stores.redis.runs.record import Record
from celery_tw.stores.redis.runs.runs import Runs

logger = logging.getLogger(__name__)

LOOKS = 10
"""The leader looks so often within one timeout: many tasks may be parked, for long."""

AT_ONCE = 200
"""So many are looked after in one look, the others in the next, half a second later: the leader has silent runs to look after as well."""

LONGEST_MS = 3600 * 1000
MOST_DOUBLINGS = 32


class Resending:
    """Looks after the long runs that are awaited; *rest_of* makes of a message, and its mid, a record of one that is sent once more."""

    def __init__(self, *, runs: Runs, ids: EntryIds, timeout_ms: int, rest_of: Callable[[bytes, str], bytes]) -> None:
        self.runs = runs
        self.ids = ids
        self.timeout_ms = timeout_ms
        self.rest_of = rest_of
        self.pulses = Pulses(blind_ms=max(timeout_ms, BLIND_MS))
        self._next_look_ms = 0

    def look(self, epoch: int, now_ms: int) -> None:
        """Look if it is time to, as the leader of *epoch*; raises `StaleEpoch`, `StoreUnavailable`."""
        if now_ms < self._next_look_ms:
            return
        self.pulses.note(epoch, self.runs.under_way.awaited(), now_ms)
        overdue = self.pulses.still(self._patience_ms)
        self._next_look_ms = now_ms + (self.timeout_ms // LOOKS if len(overdue) <= AT_ONCE else 0)
        longest_first = sorted(overdue.items(), key=lambda each: each[1].since_ms)
        self._look_after(epoch, dict(longest_first[:AT_ONCE]))

    def _look_after(self, epoch: int, overdue: dict[str, Pulse]) -> None:
        records = self.runs.under_way.read(overdue)
        waiting = [record for record in records if record.envelope is not None and not record.counter]
        self.runs.under_way.stop_awaiting(*(overdue.keys() - {record.mid for record in waiting}))
        for record in waiting:
            self._resend(epoch, overdue[record.mid].counter, record)
        for mid in overdue:
            self.pulses.restart(mid)

    def _patience_ms(self, sends: str) -> int:
        """Return how long to wait for a run whose message was sent once more as often as *sends* begins with."""
        times = int(sends.partition(" ")[0])
        return min(self.timeout_ms << min(times, MOST_DOUBLINGS), max(LONGEST_MS, self.timeout_ms))

    def _resend(self, epoch: int, sends: str, record: Record) -> None:
        mid, task, task_id, rest = record.mid, record.task, record.task_id, self.rest_of(record.envelope or b"", record.mid)
        if self.runs.messages.resend(epoch, sends, self.ids, mid=mid, task_id=task_id, rest=rest) == "put":
            logger.warning("%s[%s] was sent again and nobody has begun it: its message is sent once more", task, task_id)
            run_reassigned.send(sender=self, mid=mid, task=task, task_id=task_id, losses=record.losses, reason="not begun")
