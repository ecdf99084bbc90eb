"""One-time tasks: batches that bring their own messages. FIRE ONCE carries them out without their leaving Redis."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from celery_tw.errors import MalformedRecord, StaleEpoch, StoreRefused, StoreUnavailable
from celery_tw.events import slots_skipped
from celery_tw.scheduler.gauges import Gauges
from celery_tw.scheduler.ports import Workshop
from celery_tw.scheduler.refusals import REFUSED_WAIT_MS, Refusals
from celery_tw.scheduler.upcoming import EARLY_WAIT_MS, Upcoming
from celery_tw.stores.redis.dispatching import Dispatching
from celery_tw.stores.redis.line import Call
from celery_tw.stores.redis.timetable import Timetable


@dataclass(frozen=True, slots=True)
class OneTimeFlight:
    """A batch of pairs of due ms and id, and the call that fires them."""

    batch: Sequence[tuple[int, int]]
    firing: Call


class OneTimeTasks:
    """Fires one-time tasks, or lets them wait in the lanes of their queues.

    *hold* takes back one that is due later than thought, *on_newer* is told of one from a newer version, *on_laned* of a queue in whose
    lanes something waits now.
    """

    def __init__(
        self,
        *,
        dispatching: Dispatching,
        timetable: Timetable,
        upcoming: Upcoming,
        workshop: Workshop,
        refusals: Refusals,
        gauges: Gauges,
        hold: Callable[[int, int], None],
        on_newer: Callable[[str], None],
        on_laned: Callable[[str], None] = lambda queue: None,
    ) -> None:
        self.dispatching = dispatching
        self.timetable = timetable
        self.upcoming = upcoming
        self.workshop = workshop
        self.refusals = refusals
        self.gauges = gauges
        self.hold = hold
        self.on_newer = on_newer
        self.on_laned = on_laned
        self.queue_keys: set[bytes] = set()
        self.fair_queues: set[str] = set()
        self.epoch = 0

    def send(self, batch: Sequence[tuple[int, int]]) -> OneTimeFlight:
        """Hand *batch* to Redis."""
        firing = self.dispatching.fire_once(
            self.epoch,
            batch,
            fingerprint=self.workshop.broker_fingerprint(),
            queue_keys=tuple(self.queue_keys),
            fair_queues=tuple(self.fair_queues),
        )
        return OneTimeFlight(batch, firing)

    def settle(self, flight: OneTimeFlight) -> None:
        """Act on the answers; what Redis refuses as a whole is halved until it is known whom that is about."""
        batch = flight.batch
        try:
            now_ms, statuses = flight.firing.statuses()
        except StoreRefused as error:
            if len(batch) > 1:
                middle = len(batch) // 2
                self.settle(self.send(batch[:middle]))
                self.settle(self.send(batch[middle:]))
                return
            now_ms, statuses = self.gauges.now_ms, [f"refused {error}"]
        for (due_ms, entry_id), status in zip(batch, statuses, strict=True):
            self._settle(due_ms, entry_id, status, now_ms)

    def _settle(self, due_ms: int, entry_id: int, status: str, now_ms: int) -> None:
        if status == "fired":
            self.gauges.count_fire(now_ms - due_ms)
            return
        verb, _, detail = status.partition(" ")
        if verb == "late":
            self.gauges.skipped += 1
            slots_skipped.send(sender=self, name="", entry_id=entry_id, from_ms=due_ms, to_ms=due_ms, count=1, reason="misfire:skip")
        elif verb == "early":
            self.upcoming.add(entry_id, due_ms, wake_ms=now_ms + EARLY_WAIT_MS)
        elif verb == "laned":
            self.on_laned(detail)
        elif verb == "unlaned":
            self.fair_queues.add(detail)
            self.upcoming.add(entry_id, due_ms)
        elif verb == "undeclared":
            self.queue_keys.add(detail.encode())
            self.upcoming.add(entry_id, due_ms)
        elif verb == "foreign":
            self._render_again(entry_id, due_ms)
        elif verb == "malformed":
            self.refusals.quarantine(entry_id, f"a one-time task cannot be fired: {detail}")
        elif verb == "newer":
            self.on_newer(f"one-time task {entry_id} was written by a newer version of celery-tw")
            self.upcoming.add(entry_id, due_ms, wake_ms=now_ms + REFUSED_WAIT_MS)
        elif verb == "moved":
            self._follow(entry_id)
        elif verb == "refused":
            self._keep_back(entry_id, due_ms, detail)

    def _follow(self, entry_id: int) -> None:
        _, due_ms, held = self.timetable.read_one_time(entry_id)
        if due_ms is not None and not held:
            self.hold(entry_id, due_ms)

    def _render_again(self, entry_id: int, due_ms: int) -> None:
        """Render a task again whose message was made for another broker configuration, and try it again at once."""
        stored = self.timetable.read_stored(entry_id)
        (whole,) = self.timetable.records.whole([stored])
        if stored is None or whole is None:
            return
        try:
            fresh = self.workshop.render_again(whole)
        except (StoreUnavailable, StaleEpoch):
            raise
        except MalformedRecord as error:
            self.refusals.quarantine(entry_id, str(error))
        except Exception as error:  # whatever kombu may raise over a strange envelope: it concerns this task alone
            self._keep_back(entry_id, due_ms, f"{type(error).__name__}: {error}")
        else:
            self.dispatching.rerender(self.epoch, entry_id, old=stored, new=fresh)
            self.upcoming.add(entry_id, due_ms)

    def _keep_back(self, entry_id: int, due_ms: int, reason: str) -> None:
        self.refusals.keep_back(f"one-time task {entry_id}", entry_id=entry_id, due_ms=due_ms, slot_ms=due_ms, reason=reason)
