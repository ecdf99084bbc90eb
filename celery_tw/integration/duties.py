"""Duties: what a scheduler does while it leads, put together for one process; `Node` gives each its thread.

None of them knows of threads. Where one has something for another to do, it wakes the loop that this one has.
"""

from collections.abc import Callable, Sequence
from functools import partial

from celery_tw.integration.broker import shares_redis
from celery_tw.integration.cancellation.announcing import announce_beside
from celery_tw.integration.connected import Connected
from celery_tw.integration.dags.superseded import stop
from celery_tw.integration.dlq.leaders_burials import bury_lost, bury_refused, take_back, take_back_refused
from celery_tw.integration.entries.static_entries import Installer
from celery_tw.integration.lanes.queue_lengths import queue_lengths
from celery_tw.integration.publishing.choice import publisher_for
from celery_tw.integration.runs.mourning import mourn
from celery_tw.integration.runs.received import once_more, record_rest
from celery_tw.integration.runs.redis_runs import runs_on
from celery_tw.integration.workshop import CeleryWorkshop
from celery_tw.leadership.elector import Elector
from celery_tw.scheduler.assembly import assemble
from celery_tw.scheduler.engine import Engine
from celery_tw.scheduler.loops import Loop
from celery_tw.scheduler.measuring import Measuring
from celery_tw.scheduler.outbox import Outbox
from celery_tw.scheduler.reaper import Reaper
from celery_tw.scheduler.resending import Resending
from celery_tw.scheduler.retention import Retention
from celery_tw.scheduler.rooms import Rooms
from celery_tw.scheduler.starving import Starving
from celery_tw.scheduler.superseding import Superseding
from celery_tw.scheduler.terminating import Terminating
from celery_tw.stores.redis.consumers import Consumers
from celery_tw.stores.redis.deferring import EntryIds
from celery_tw.stores.redis.open_fires import OpenFires

CLAIMING_MS = 1000
LEFTOVERS_MS = 10_000
"""How often the outbox is looked at unasked: where fires go through it, and where only an earlier broker can have left something there."""


class Duties:
    """The duties of the process with *parts* and *elector*; *loop* finds a loop of it by its name, once they are made.

    *started_ms* tells when the process started, in Redis time.
    """

    def __init__(self, parts: Connected, elector: Elector, *, loop: Callable[[str], Loop], started_ms: Callable[[], int]) -> None:
        self.parts = parts
        self.elector = elector
        self.loop = loop
        self.claims = not shares_redis(parts.app)
        self.publisher = publisher_for(parts.app, now_ms=parts.redis_time.now_ms, go_on=lambda: loop("publish").goes_on())
        self.outbox = self._outbox()
        self.superseding = self._superseding()
        self.rooms = Rooms()
        self.engine = self._engine(started_ms)
        self.measuring = self._measuring()
        self.starving = self._starving()
        self.reaper = self._reaper()
        self.terminating = self._terminating()
        self.retention = self._retention()

    def _engine(self, started_ms: Callable[[], int]) -> Engine:
        parts = self.parts
        return assemble(
            parts.client,
            parts.keys,
            parts.settings,
            namespace=parts.settings.namespace,
            elector=self.elector,
            workshop=CeleryWorkshop(parts.app, parts.renderer, statics=parts.statics, allowed=parts.settings.allowed_tasks),
            installer=Installer(
                parts.app,
                parts.timetable,
                drafter=parts.drafter,
                storing=lambda: parts.storing,
                statics=parts.statics,
                process_start_ms=started_ms,
                on_progress=lambda: self.loop("work").make_progress(),
            ),
            clock=parts.clock,
            redis_time=parts.redis_time,
            room=self.outbox.parcels.room if self.claims else None,
            supersede=self.superseding.supersede,
            rooms=self.rooms,
            measure_soon=lambda: self.loop("measure").wake(),
        )

    def _outbox(self) -> Outbox:
        parts = self.parts
        return Outbox(
            claims=parts.claims,
            publisher=self.publisher,
            elector=self.elector,
            clock=parts.clock,
            redis_time=parts.redis_time,
            on_room=lambda: self.loop("work").wake(),
            on_cancelled=partial(announce_beside, parts.app),
            on_buried=lambda parcel, reason: bury_refused(
                parts.app, parcel.envelope, claim_id=parcel.claim.claim_id, reason=reason, refusals=parcel.refusals
            ),
            on_delivered=lambda parcel: take_back_refused(parts.app, parcel.envelope),
            idle_ms=CLAIMING_MS if self.claims else LEFTOVERS_MS,
        )

    def _superseding(self) -> Superseding:
        parts = self.parts
        return Superseding(
            open_fires=OpenFires(parts.client, parts.keys),
            cancel=self._stop_superseded,
            wake=lambda: self.loop("stop").wake(),
        )

    def _stop_superseded(self, name: str, task_ids: Sequence[str], reason: str) -> None:
        stop(self.parts.app, name, task_ids, stop_tasks=lambda ids: self.parts.canceller.stop(ids, reason))

    def _measuring(self) -> Measuring:
        parts = self.parts
        return Measuring(
            admitting=self.engine.admission.admitting,
            consumers=Consumers(parts.client, parts.keys),
            lengths=queue_lengths(parts.app, parts.client),
            rooms=self.rooms,
            elector=self.elector,
            clock=parts.clock,
            fair=parts.settings.fair_queues,
            default_capacity=parts.settings.fair_capacity,
            claimed=self.outbox.parcels.on_their_way if self.claims else lambda queues: dict.fromkeys(queues, 0),
            wake=lambda: self.loop("work").wake(),
        )

    def _starving(self) -> Starving:
        parts = self.parts
        return Starving(
            admitting=self.engine.admission.admitting,
            elector=self.elector,
            redis_time=parts.redis_time,
            gauges=self.engine.gauges,
            limit_ms=parts.settings.starvation_alert_ms,
        )

    def _reaper(self) -> Reaper:
        parts = self.parts
        runs = runs_on(parts.app, parts.client, parts.keys, parts.settings, parts.redis_time)
        ids, timeout_ms = EntryIds(parts.timetable), parts.settings.heartbeat_timeout_ms
        rest_of = partial(record_rest, fair=parts.settings.fair_queues)
        return Reaper(
            runs=runs,
            ids=ids,
            elector=self.elector,
            clock=parts.clock,
            timeout_ms=timeout_ms,
            most=parts.settings.max_reassignments,
            rest_of=rest_of,
            resending=Resending(runs=runs, ids=ids, timeout_ms=timeout_ms, rest_of=lambda message, mid: rest_of(once_more(message, mid))),
            mourn=lambda record: mourn(parts.app, record),
            bury=partial(bury_lost, parts.app),
            take_back=partial(take_back, parts.app),
        )

    def _terminating(self) -> Terminating:
        parts = self.parts
        return Terminating(
            terminations=parts.terminations,
            runs=parts.runs,
            elector=self.elector,
            redis_time=parts.redis_time,
            terminate=lambda task_id: parts.canceller.terminate(task_id),
        )

    def _retention(self) -> Retention:
        parts = self.parts
        return Retention(
            letters=parts.dead_letters,
            elector=self.elector,
            clock=parts.clock,
            redis_time=parts.redis_time,
            expires_ms=parts.settings.dlq_expires_ms,
            max_bytes=parts.settings.dlq_max_bytes,
        )
