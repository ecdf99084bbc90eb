"""Admission: lets messages that wait in lanes go on to their queues, as these have room.

::

    producers ──ENTER──▶ lane ──ADMIT──▶ queue (or outbox)
    due ──────FIRE ONCE──▶ │                                what cannot go on (for another broker, not allowed, unreadable)
                           └────────────▶ due               is made due again, where it is seen to as any one-time task

`Shares` chooses in Python among the oldest of each lane, and one script hands the chosen ones over and takes them out of their lanes. So a
leader that dies on any line has admitted a message or has not; the next one measures and goes on. Its shares begin anew.

What Redis refuses is passed over in its lane for a while. A queue that was measured has room for so many, no more are admitted until it is
measured again. The steps are the engine's: one thread.
"""

from collections.abc import Callable, Sequence

from celery_tw.core.shares import Ageing, Choice, Heads, Shares
from celery_tw.errors import StoreRefused
from celery_tw.events import slots_skipped
from celery_tw.failpoints import failpoint
from celery_tw.scheduler.gauges import Gauges
from celery_tw.scheduler.one_time import OneTimeTasks
from celery_tw.scheduler.refusals import REFUSED_WAIT_MS
from celery_tw.scheduler.rooms import Rooms
from celery_tw.stores.redis.admitting import Admitting
from celery_tw.stores.redis.dispatching import Dispatching
from celery_tw.stores.redis.line import Call

BATCH = 250
AT_ONCE = 4 * BATCH
SPARE = 10
"""Of each segment half of what is to be admitted is read, and so many more: enough where no lane has more than half of the turns."""


class Admission:
    """Admits to the queues in *rooms*; *hold* keeps a task until it is due, *outbox_room* tells what the outbox takes, if there is one."""

    def __init__(
        self,
        *,
        admitting: Admitting,
        dispatching: Dispatching,
        one_time: OneTimeTasks,
        rooms: Rooms,
        gauges: Gauges,
        hold: Callable[[int, int], None],
        shares: Sequence[int],
        ageing: Ageing,
        outbox_room: Callable[[], int] | None = None,
    ) -> None:
        self.admitting = admitting
        self.dispatching = dispatching
        self.one_time = one_time
        self.rooms = rooms
        self.gauges = gauges
        self.hold = hold
        self.outbox_room = outbox_room
        self._shares_asked = shares
        self._ageing = ageing
        self._shares: dict[str, Shares] = {}
        self._kept_back: dict[int, int] = {}

    def admit(self, epoch: int, now_ms: int) -> bool:
        """Give each queue what it has room for, up to `AT_ONCE`; return whether there may be more to do at once."""
        more = False
        for queue, room in self.rooms.open(epoch).items():
            count = min(room, AT_ONCE) if self.outbox_room is None else min(room, AT_ONCE, self.outbox_room())
            if count > 0:
                more = self._admit_to(queue, count, epoch, now_ms) or more
        return more

    def _admit_to(self, queue: str, count: int, epoch: int, now_ms: int) -> bool:
        most = count // 2 + SPARE
        heads = self._without_kept_back(self.admitting.heads(queue, self._ageing.segments(now_ms), limit=most), now_ms)
        choices = self._shares_of(queue).choose(heads, count, now_ms=now_ms, most=most)
        if not choices:
            self.rooms.nothing_waits(queue)
            return False
        return self._hand_over(queue, choices, epoch)

    def _without_kept_back(self, heads: Heads, now_ms: int) -> Heads:
        self._kept_back = {entry_id: at_ms for entry_id, at_ms in self._kept_back.items() if 0 <= now_ms - at_ms < REFUSED_WAIT_MS}
        return {segment: [head for head in found if head[1] not in self._kept_back] for segment, found in heads.items()}

    def _keep_back(self, choice: Choice, reason: str) -> None:
        """Pass over a message in its lane for a while: what Redis refuses may be the server's doing, and nothing of the message."""
        self._kept_back[choice.entry_id] = self.gauges.now_ms
        self.one_time.refusals.tell_of(f"one-time task {choice.entry_id}", entry_id=choice.entry_id, slot_ms=choice.since_ms, reason=reason)

    def _shares_of(self, queue: str) -> Shares:
        return self._shares.setdefault(queue, Shares(self._shares_asked, self._ageing))

    def _hand_over(self, queue: str, choices: Sequence[Choice], epoch: int) -> bool:
        """Carry the choices out; return whether that changed anything."""
        failpoint("L0")
        batches = [choices[begin : begin + BATCH] for begin in range(0, len(choices), BATCH)]
        try:
            calls = [self._send(queue, batch, epoch) for batch in batches]
            moved = [self._settle(queue, batch, call, epoch) for batch, call in zip(batches, calls, strict=True)]
        except Exception:
            self.dispatching.line.drop()
            self.rooms.give(queue, len(choices))
            raise
        failpoint("L1")
        return any(moved)

    def _send(self, queue: str, choices: Sequence[Choice], epoch: int) -> Call:
        return self.dispatching.admit(
            epoch,
            choices,
            queue=queue,
            fingerprint=self.one_time.workshop.broker_fingerprint(),
            queue_keys=tuple(self.one_time.queue_keys),
        )

    def _settle(self, queue: str, choices: Sequence[Choice], call: Call, epoch: int) -> bool:
        """Act on the answers; what Redis refuses as a whole is halved until it is known whom that is about."""
        try:
            now_ms, statuses = call.statuses()
        except StoreRefused as error:
            if len(choices) == 1:
                self._keep_back(choices[0], str(error))
                return False
            middle = len(choices) // 2
            halves = [self._settle(queue, half, self._send(queue, half, epoch), epoch) for half in (choices[:middle], choices[middle:])]
            return any(halves)
        self._count(queue, statuses)
        for choice, status in zip(choices, statuses, strict=True):
            self._act(choice, status, now_ms)
        return any(not status.startswith(("early", "moved")) for status in statuses)

    def _count(self, queue: str, statuses: Sequence[str]) -> None:
        fired = statuses.count("fired")
        self.gauges.fired += fired
        self.gauges.admitted += fired
        self.rooms.give(queue, fired)

    def _act(self, choice: Choice, status: str, now_ms: int) -> None:
        verb, _, detail = status.partition(" ")
        if verb == "undeclared":
            self.one_time.queue_keys.add(detail.encode())
        elif verb == "returned":
            self.hold(choice.entry_id, now_ms)
        elif verb == "late":
            since_ms = choice.since_ms
            self.gauges.skipped += 1
            slots_skipped.send(
                sender=self, name="", entry_id=choice.entry_id, from_ms=since_ms, to_ms=since_ms, count=1, reason="misfire:skip"
            )
