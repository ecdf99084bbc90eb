"""TimeWheel: the plug-in's face. It holds the parts and adds no logic."""

from collections.abc import Iterable, Mapping
from datetime import datetime, tzinfo
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from celery.canvas import Signature
from celery.result import AsyncResult

from celery_tw.errors import ImproperlyConfigured
from celery_tw.integration.cancellation import remote_control, revoking
from celery_tw.integration.cancellation.cancelling import Cancellation, Canceller
from celery_tw.integration.clock_control import ClockControl
from celery_tw.integration.connected import Connected
from celery_tw.integration.dags import internal_tasks, watching  # noqa: F401 - the latter's receivers come before those of runs
from celery_tw.integration.dags.asking import CarryNodes
from celery_tw.integration.dags.dag import DAG
from celery_tw.integration.dags.parts import sqlalchemy_or_refuse
from celery_tw.integration.deferring.deferral import Deferral
from celery_tw.integration.deferring.eject import Ejected, Ejector
from celery_tw.integration.dlq.dead_letters import DeadLetterBox
from celery_tw.integration.dlq.refusals import KeepRefusals
from celery_tw.integration.entries.book import Book
from celery_tw.integration.entries.views import Backfill, Entry, Page, Slot, Stored
from celery_tw.integration.hidden_settings import hide_our_urls
from celery_tw.integration.lanes.announcing import AnnounceConsumer
from celery_tw.integration.lanes.lanes import LaneControl
from celery_tw.integration.publishing.choice import fire_path
from celery_tw.integration.publishing.outbox_control import OutboxControl
from celery_tw.integration.runs.guarding import GuardsNeedBase
from celery_tw.integration.runs.lost_processes import NoticeLostProcesses
from celery_tw.integration.runs.run_views import RunList
from celery_tw.integration.safeguards import check_namespace
from celery_tw.integration.settings_check import CheckSettings
from celery_tw.integration.spawned_children import copies_of, install_in_children
from celery_tw.integration.status import Status, read_status

if TYPE_CHECKING:
    from celery_tw.integration.dags.dags import Dags
    from celery_tw.integration.runs.patterns import GuardPatterns, Patterns


class TimeWheel:
    """The time wheel of one Celery app: ``tw = TimeWheel(app)``.

    Making it a second time for the same app returns the first one; it is also ``app.timewheel``. It reads no setting and connects nowhere
    before its first verb. *guard* guards tasks by patterns of their names: ``TimeWheel(app, guard={"shop.*": {"once": True}})``. Every
    verb may raise `StoreUnavailable` when Redis does not answer, and `ImproperlyConfigured`.
    """

    app: Any
    deferral: Deferral
    guard: "GuardPatterns | None"

    def __new__(cls, app: Any, *, guard: "Patterns | None" = None) -> Self:
        existing = app.__dict__.get("timewheel")
        if isinstance(existing, cls):
            existing._guard(guard)
            return existing
        wheel = super().__new__(cls)
        wheel.app = app
        wheel.guard = None
        app.timewheel = wheel
        hide_our_urls()
        remote_control.install(app)
        revoking.install(app)
        wheel.deferral = Deferral(app)
        wheel.deferral.install()
        install_in_children(app, lambda copy: cls(copy, guard=None if wheel.guard is None else wheel.guard.patterns))
        app.steps["worker"].add(CheckSettings)
        app.steps["worker"].add(GuardsNeedBase)
        internal_tasks.register(app)
        app.steps["worker"].add(CarryNodes)
        app.steps["worker"].add(NoticeLostProcesses)
        app.steps["consumer"].add(AnnounceConsumer)
        app.steps["consumer"].add(KeepRefusals)
        wheel._guard(guard)
        return wheel

    def _guard(self, patterns: "Patterns | None") -> None:
        """Guard tasks by their names; raises `ImproperlyConfigured` when other patterns are there already."""
        if patterns is None or (self.guard is not None and self.guard.patterns == patterns):
            return
        if self.guard is not None:
            raise ImproperlyConfigured("guard: this app's time wheel has other patterns already: give all of them in one place")
        from celery_tw.integration.runs.patterns import GuardPatterns  # noqa: PLC0415 - they know our base, which knows the time wheel

        guard = GuardPatterns(self.app, patterns)
        guard.install()
        self.guard = guard
        for copy in copies_of(self.app):
            type(self)(copy, guard=patterns)

    def __reduce__(self) -> tuple[type["TimeWheel"], tuple[Any]]:
        return type(self), (self.app,)

    @cached_property
    def _parts(self) -> Connected:
        return Connected(self.app)

    @cached_property
    def _book(self) -> Book:
        check_namespace(self.app, self._parts.election)
        return self._parts.book

    def schedule(
        self,
        name: str,
        signature: Signature | DAG,
        schedule: Any,
        *,
        misfire: Any = None,
        overlap: str | None = None,
        tolerance: float | None = None,
        jitter: float = 0.0,
        start: datetime | None = None,
        end: datetime | None = None,
        max_runs: int | None = None,
        note: str = "",
        lane: str | None = None,
        delivery: str = "at_least_once",
    ) -> Entry:
        """Store the entry *name*, which sends *signature* at each slot of *schedule*, or change it if it exists; a DAG is submitted.

        *schedule* is one of ``cron()``, ``every()``, ``once()``, ``rrule()``, a Celery schedule, or a number of seconds. *misfire* says
        what becomes of slots missed by more than *tolerance* seconds: "latest" (default), "skip", "catch_up" or a `Misfire`. *overlap* says
        what becomes of a slot while an earlier fire is still there: "allow", "skip", "buffer_one" or "cancel_previous". *jitter* spreads
        the fires over so many seconds after their slots, always by the same share. *start* and *end* are aware datetimes and bound the
        slots, *max_runs* the fires. *lane* is that in which its tasks wait for a fair queue. An equal definition is no change; pause,
        counters and history survive any change.

        Raises `InvalidEntry` or `InvalidSchedule` before anything is stored, and `StaticEntry` for a name of ``beat_schedule``.
        """
        options: dict[str, Any] = {
            "tolerance": tolerance,
            "jitter": jitter,
            "start": start,
            "end": end,
            "max_runs": max_runs,
            "note": note,
            "lane": lane,
            "delivery": delivery,
        }
        if misfire is not None:
            options["misfire"] = misfire
        if overlap is not None:
            options["overlap"] = overlap
        what = self.dags.signature(signature) if isinstance(signature, DAG) else signature
        return self._book.schedule(name, what, schedule, **options)

    def schedule_many(self, specs: Iterable[Mapping[str, Any]]) -> Stored:
        """Store many entries, each a mapping with ``name``, ``signature``, ``schedule`` and the options of `schedule`.

        They are checked and written 500 at a time: an error in one leaves the chunks before its own stored and its own chunk not.
        """
        return self._book.schedule_many(specs)

    def entry(self, name: str) -> Entry:
        """Return the entry *name*; raises `UnknownEntry`."""
        return self._book.entry(name)

    def entries(self, prefix: str = "", limit: int = 100, cursor: int | None = None) -> Page:
        """Return about *limit* entries whose names begin with *prefix*, in no order, and the cursor for more (None at the end)."""
        return self._book.entries(prefix=prefix, limit=limit, cursor=cursor)

    def remove(self, name: str) -> None:
        """Remove the entry *name*; raises `UnknownEntry`, or `StaticEntry` when it belongs to ``beat_schedule``."""
        self._book.remove(name)

    def pause(self, name: str, note: str = "") -> Entry:
        """Keep *name* from firing until it is resumed, over restarts and deployments too; *note* says why."""
        return self._book.pause(name, note=note)

    def resume(self, name: str) -> Entry:
        """Let *name* fire again from now on; the slots that passed meanwhile are recorded as skipped."""
        return self._book.resume(name)

    def trigger(self, name: str) -> AsyncResult:
        """Send the task of *name* now, besides its slots, and return its result; a one-time task is fired now instead of later."""
        return self._book.trigger(name)

    def preview(self, what: Any, n: int = 10, tz: str | tzinfo | None = None, after: datetime | None = None) -> list[datetime]:
        """Return the next *n* slots of an entry (by name) or a schedule after *after*, as aware datetimes in *tz* (the app's zone)."""
        return self._book.preview(what, n=n, tz=tz, after=after)

    def history(self, name: str, limit: int = 60) -> list[Slot]:
        """Return the last fires and skipped ranges of *name*, newest first."""
        return self._book.history(name, limit=limit)

    def backfill(self, name: str, start: datetime, end: datetime, rate: float | None = None, dry_run: bool = False) -> Backfill:
        """Ask the leader to fire the slots of *name* in [*start*, *end*] that have passed, again, oldest first.

        *rate* is slots a second, by default ``tw_catch_up_rate``. The fires are new ones, with ids of their own. *dry_run* only counts.
        Raises `InvalidEntry` for more than 100,000 slots.
        """
        return self._book.backfill(name, start, end, rate=rate, dry_run=dry_run)

    def cancel(self, task_id: str, reason: str = "cancelled", *, terminate_after: float | None = None) -> Cancellation:
        """Keep the task *task_id* from running: take it off the timetable, or ask the workers to revoke it when it does not wait there.

        *task_id* is the id of a deferred task, or that of a one-time entry's fire. All that waits under it goes; the result becomes
        REVOKED, and a chord hears of it. It concerns what was sent before: sent again with the same id, the task waits and runs. A task
        with one of our bases that runs already is asked to stop, and when it has not done so *terminate_after* seconds later (by default
        the ``cancel_grace`` of the task, if it has one) its process is ended; any other that runs is left to run.
        """
        return self.canceller.cancel(task_id, reason, terminate_after=terminate_after)

    @cached_property
    def canceller(self) -> Canceller:
        """What Celery's own revoke uses to reach the timetable."""
        check_namespace(self.app, self._parts.election)
        return self._parts.canceller

    def eject(self) -> Ejected:
        """Hand every waiting one-time task back to Celery, as a message with an ETA under its own id; recurring entries stay.

        Set ``tw_defer_eta`` to "off" first, or new ones follow. Raises `StoreUnavailable` or `BrokerUnavailable` when no answer comes; then
        what is left waits on, for another call.
        """
        return self.ejector.eject()

    @cached_property
    def ejector(self) -> Ejector:
        """What hands the waiting tasks back, and tells how many there are."""
        check_namespace(self.app, self._parts.election)
        return self._parts.ejector

    def status(self) -> Status:
        """Return who leads and how the timetable stands."""
        parts = self._parts
        return read_status(parts.timetable, parts.election, parts.claims, parts.lanes, parts.dead_letters, fire_path=fire_path(self.app))

    @cached_property
    def lanes(self) -> LaneControl:
        """What waits for fair queues, lane by lane, and what a person can do about it."""
        check_namespace(self.app, self._parts.election)
        return self._parts.lanes

    @cached_property
    def runs(self) -> RunList:
        """The runs that are under way, of tasks with one of our bases."""
        return RunList(self._parts.runs)

    @cached_property
    def dags(self) -> "Dags":
        """Workflows: submit DAGs, and look after their runs; raises `ImproperlyConfigured` without SQLAlchemy."""
        sqlalchemy_or_refuse()
        from celery_tw.integration.dags.dags import Dags  # noqa: PLC0415 - only who uses DAGs has SQLAlchemy

        return Dags(self.app)

    @cached_property
    def outbox(self) -> OutboxControl:
        """What a person can do about messages that a broker apart does not take."""
        check_namespace(self.app, self._parts.election)
        return self._parts.outbox

    @cached_property
    def dlq(self) -> DeadLetterBox:
        """Dead letters: tasks that have failed for good, to be looked at, replayed or thrown away."""
        check_namespace(self.app, self._parts.election)
        return self._parts.dlq

    @cached_property
    def clock(self) -> ClockControl:
        """What a person can do after the server's clock has stepped."""
        return ClockControl(self._parts.election, self._book)
