"""Node: one scheduler process: an elector, an engine, a listener and an outbox, each in its own thread.

The elector renews the lease in a thread of its own, so that a slow broker or a long batch never costs it. The listener waits for news and
wakes the others. They all loop over step functions that know nothing of threads.
"""

import logging
import os
import socket
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import uuid4

from celery_tw.core.term import Term
from celery_tw.errors import CeleryTWError
from celery_tw.integration.broker import shares_redis
from celery_tw.integration.cancellation.announcing import announce_beside
from celery_tw.integration.connected import Connected
from celery_tw.integration.dags.superseded import stop
from celery_tw.integration.dlq.leaders_burials import bury_lost, bury_refused, take_back
from celery_tw.integration.entries.static_entries import Installer
from celery_tw.integration.lanes.queue_lengths import queue_lengths
from celery_tw.integration.lanes.starving_events import StarvingEvents
from celery_tw.integration.publishing.choice import publisher_for
from celery_tw.integration.runs.mourning import mourn
from celery_tw.integration.runs.received import record_rest
from celery_tw.integration.runs.runner import runs_on
from celery_tw.integration.safeguards import check_eviction, check_namespace
from celery_tw.integration.workshop import CeleryWorkshop
from celery_tw.leadership.elector import Elector
from celery_tw.scheduler.assembly import assemble
from celery_tw.scheduler.loops import Loop
from celery_tw.scheduler.measuring import Measuring
from celery_tw.scheduler.outbox import Outbox
from celery_tw.scheduler.reaper import Reaper
from celery_tw.scheduler.retention import Retention
from celery_tw.scheduler.rooms import Rooms
from celery_tw.scheduler.starving import Starving
from celery_tw.scheduler.superseding import Superseding
from celery_tw.scheduler.terminating import Terminating
from celery_tw.scheduler.watchdog import Watchdog
from celery_tw.stores.redis.consumers import Consumers
from celery_tw.stores.redis.deferring import EntryIds
from celery_tw.stores.redis.news import NewsReader
from celery_tw.stores.redis.open_fires import OpenFires

logger = logging.getLogger(__name__)

LISTEN_MS = 500
GATHER_MS = 20
"""After news the listener looks away for so long: a thousand tasks stored in a second wake the leader fifty times, not a thousand."""

JOIN_S = 1.0
STUCK_LEASES = 3
CLAIMING_MS = 1000
LEFTOVERS_MS = 10_000
"""How often the outbox is looked at unasked: where fires go through it, and where only an earlier broker can have left something there."""

STUCK_PUBLISHING_MS = 60_000
"""Publishing may take its time: connecting alone takes seconds for each of several brokers that are away."""


class Node:
    """A scheduler that stands by, leads when elected, and can be stopped at any moment."""

    def __init__(self, app: Any) -> None:
        parts = self.parts = Connected(app)
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:6]}"
        self._started_boot_ms = parts.clock.boot_ms()
        self._checked = False
        self._listening = False
        self._closing = threading.Lock()
        self.elector = Elector(
            parts.election,
            clock=parts.clock,
            redis_time=parts.redis_time,
            owner=self.owner,
            lease_ms=parts.settings.leader_lease_ms,
            max_skew_ms=parts.settings.max_clock_skew_ms,
            describe=self._describe,
        )
        self.claims = not shares_redis(app)
        self.publisher = publisher_for(app, now_ms=parts.redis_time.now_ms, go_on=lambda: self._publish.goes_on())
        self.outbox = self._outbox()
        self.superseding = Superseding(
            open_fires=OpenFires(parts.client, parts.keys),
            cancel=self._stop_superseded,
            wake=lambda: self._stop.wake(),
        )
        self.rooms = Rooms()
        self.engine = assemble(
            parts.client,
            parts.keys,
            parts.settings,
            namespace=parts.settings.namespace,
            elector=self.elector,
            workshop=CeleryWorkshop(app, parts.renderer, statics=parts.statics, allowed=parts.settings.allowed_tasks),
            installer=Installer(
                app,
                parts.timetable,
                drafter=parts.drafter,
                storing=lambda: parts.storing,
                statics=parts.statics,
                process_start_ms=self.started_ms,
                on_progress=lambda: self._work.make_progress(),
            ),
            clock=parts.clock,
            redis_time=parts.redis_time,
            room=self.outbox.room if self.claims else None,
            supersede=self.superseding.supersede,
            rooms=self.rooms,
            measure_soon=lambda: self._measure.wake(),
        )
        self.measuring = self._measuring()
        self.starving = self._starving()
        self.reaper = self._reaper()
        self.terminating = self._terminating()
        self.retention = self._retention()
        self._news = NewsReader(parts.client, parts.keys)
        self._elect = Loop("tw-elect", self._elect_step)
        self._listen = Loop("tw-listen", self._listen_step)
        self._work = Loop("tw-work", self._work_step)
        self._publish = Loop("tw-publish", self._publish_step)
        self._measure = Loop("tw-measure", self.measuring.step)
        self._reap = Loop("tw-reap", self._reap_step)
        self._stop = Loop("tw-stop", self._stop_step)
        prompt, patient = (self._elect, self._listen, self._work), (self._publish, self._measure, self._reap, *self._dags())
        self.loops = (*prompt, *patient, self._stop)  # the last may wait for the broker as long as it likes
        boot_ms, limit_ms = parts.clock.boot_ms(), STUCK_LEASES * parts.settings.leader_lease_ms + LISTEN_MS
        self._watchdogs = (
            Watchdog(prompt, limit_ms=limit_ms, boot_ms=boot_ms),
            Watchdog(patient, limit_ms=max(limit_ms, STUCK_PUBLISHING_MS), boot_ms=boot_ms),
        )

    def _outbox(self) -> Outbox:
        parts = self.parts
        return Outbox(
            claims=parts.claims,
            publisher=self.publisher,
            elector=self.elector,
            clock=parts.clock,
            redis_time=parts.redis_time,
            on_room=lambda: self._work.wake(),
            on_cancelled=partial(announce_beside, parts.app),
            on_buried=lambda parcel, reason: bury_refused(
                parts.app, parcel.envelope, claim_id=parcel.claim.claim_id, reason=reason, refusals=parcel.refusals
            ),
            idle_ms=CLAIMING_MS if self.claims else LEFTOVERS_MS,
        )

    def _reaper(self) -> Reaper:
        parts = self.parts
        return Reaper(
            runs=runs_on(parts.app, parts.client, parts.keys, parts.settings, parts.redis_time),
            ids=EntryIds(parts.timetable),
            elector=self.elector,
            clock=parts.clock,
            timeout_ms=parts.settings.heartbeat_timeout_ms,
            most=parts.settings.max_reassignments,
            rest_of=partial(record_rest, fair=parts.settings.fair_queues),
            mourn=lambda record: mourn(parts.app, record),
            bury=partial(bury_lost, parts.app),
            take_back=partial(take_back, parts.app),
        )

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
            claimed=self._claimed if self.claims else lambda: 0,
            wake=lambda: self._work.wake(),
        )

    def _claimed(self) -> int:
        """Return how many messages are on their way to the broker."""
        sizes = self.parts.claims.sizes()
        return sizes.waiting - sizes.refused

    def _starving(self) -> Starving:
        parts = self.parts
        return Starving(
            admitting=self.engine.admission.admitting,
            elector=self.elector,
            clock=parts.clock,
            redis_time=parts.redis_time,
            gauges=self.engine.gauges,
            limit_ms=parts.settings.starvation_alert_ms,
        )

    def _stop_superseded(self, name: str, task_ids: Sequence[str], reason: str) -> None:
        stop(self.parts.app, name, task_ids, stop_tasks=lambda ids: self.parts.canceller.stop(ids, reason))

    def _dags(self) -> list[Loop]:
        """Return the loop that looks after DAGs, where there can be any."""
        if self.parts.settings.database_url is None:
            return []
        from celery_tw.integration.dags.looking_after import sweeper_of  # noqa: PLC0415 - only who uses DAGs has SQLAlchemy

        loop = Loop("tw-dags", lambda: sweeper.step())
        sweeper = sweeper_of(self.parts.app, self.elector, go_on=loop.goes_on)
        return [loop]

    def _terminating(self) -> Terminating:
        parts = self.parts
        return Terminating(
            terminations=parts.terminations,
            runs=parts.runs,
            elector=self.elector,
            clock=parts.clock,
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

    def started_ms(self) -> int:
        """Return when this process started, in Redis time."""
        return self.parts.redis_time.now_ms() - (self.parts.clock.boot_ms() - self._started_boot_ms)

    def _describe(self) -> dict[str, Any]:
        return {"host": socket.gethostname(), "pid": os.getpid(), "started_ms": self.started_ms()}

    def start(self) -> None:
        """Start the threads; connects to nothing in the calling thread."""
        StarvingEvents(self.parts.app).follow()
        for loop in self.loops:
            loop.start()

    def check(self) -> None:
        """Raise what ended a thread; raise `CeleryTWError` when one has made no progress for too long."""
        for loop in self.loops:
            if loop.error is not None:
                raise loop.error
        for watchdog in self._watchdogs:
            stuck = watchdog.stuck(self.parts.clock.boot_ms())
            if stuck is not None:
                raise CeleryTWError(f"{stuck.name} is stuck: it has made no progress for {watchdog.limit_ms / 1000:g} s")

    def close(self) -> None:
        """Stop the threads and resign; may be called twice, and on top of any other call."""
        if not self._closing.acquire(blocking=False):
            return
        for loop in self.loops:
            loop.stop()
        for loop in (self._work, self._publish, self._measure, self._elect):
            loop.join(JOIN_S)
        try:
            self.elector.leave()
        except CeleryTWError as error:
            logger.warning("the lease runs out by itself: %s", error)
        if not self._publish.runs():
            self.publisher.close()
        if not self._measure.runs():
            self.measuring.lengths.close()

    # Steps

    def _elect_step(self) -> int:
        if not self._checked:
            check_eviction(self.parts.client, self.parts.settings)
            check_namespace(self.parts.app, self.parts.election, schedules=True)
            self._checked = True
        before: Term | None = self.elector.term
        wait_ms = self.elector.step()
        if (self.elector.term is None) != (before is None):
            self._work.wake()
        return wait_ms

    def _listen_step(self) -> int:
        if not self._listening:
            self._news.catch_up()
            self._listening = True
            self.engine.hear([], True)
        heard, missed = self._news.read(block_ms=LISTEN_MS)
        if heard:
            self.engine.hear(heard, missed)
            self._work.wake()
            if any(news.kind == "resigned" for news in heard):
                self._elect.wake()
        return GATHER_MS if heard else 0

    def _work_step(self) -> int:
        wait_ms = self.engine.step()
        if self.claims:
            self._publish.wake()
        return wait_ms

    def _reap_step(self) -> int:
        return min(self.reaper.step(), self.starving.step())

    def _stop_step(self) -> int:
        return min(self.superseding.step(), self.terminating.step(), self.retention.step())

    def _publish_step(self) -> int:
        return self.outbox.step()
