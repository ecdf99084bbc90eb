"""Deferral: tasks with an ``eta`` or a ``countdown`` wait in the timetable, not in a worker.

Everything that sends a task ends in ``app.send_task``: ``apply_async``, ``send_task`` by name, ``Task.retry``, each part of a canvas.
So it is replaced, on the app's instance::

    send_task(…, countdown=300)
        └─ Celery's own send_task, without the ETA and with a deferring producer
             ├─ routes, serialises, signals, subscribes to the result: as ever, once, in this process
             └─ publish ─▶ DEFER (a leader is seen) ─▶ waits in Redis ─▶ the leader fires it, when it is due
                       └─▶ else Celery's own ETA: no beat, no surprise

Celery's own function is looked up at each call, so that what error trackers and tracers put in its place counts, whenever they do.

Left to Celery: what is due in less than ``tw_defer_min_delay``, ``celery.chord_unlock`` (which sends itself again each second), messages of
protocol 1, and what opts out: ``apply_async(tw_defer=False)``, ``tw_defer = False`` on the task, ``tw_defer_exclude_queues``.

Each send gets a new ``tw_mid``, with or without an ETA. A leader that renders the fire of an entry is no sender: it brings ids of its own.

Where a task may have a lane another producer stands between, which writes the lane into the message and offers the task to it
(``lanes/lane_producer.py``). An app without fair queues pays nothing for that.
"""

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from celery_tw.clock import SystemClock
from celery_tw.errors import ImproperlyConfigured
from celery_tw.integration.deferring.deferred_tasks import DeferredTasks
from celery_tw.integration.deferring.deferring_producer import DeferringProducer
from celery_tw.integration.deferring.due_times import due_time_ms
from celery_tw.integration.deferring.fallbacks import Fallbacks
from celery_tw.integration.deferring.route_headers import MarkingProducer, RouteHeaders
from celery_tw.integration.deferring.task_storage import TaskStorage
from celery_tw.integration.lanes.entrance import PAST_ITS_LANE, Entrance
from celery_tw.integration.lanes.lane_producer import LaneProducer, Waits
from celery_tw.integration.lanes.lane_rule import keep_in_chain, said_lane
from celery_tw.integration.messages.collecting import collects
from celery_tw.integration.messages.identity_headers import ETA, identified
from celery_tw.integration.runs.counting import join
from celery_tw.integration.runs.retrying import note_first_send
from celery_tw.integration.runs.sends import draw_number, mint, snoozes_of

NEVER_DEFERRED = "celery.chord_unlock"


class Deferral:
    """The deferral of one app. `fallbacks` counts what was not deferred in this process although it should have been."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.fallbacks = Fallbacks()
        self.past_lanes = Fallbacks(PAST_ITS_LANE)
        self.routes = RouteHeaders(app)
        self._pid = 0
        self._tasks: DeferredTasks | None = None
        self._entrance: Entrance | None = None
        self._fair: bool | None = None

    def install(self) -> None:
        """Take the place of the app's ``send_task``; reads no setting and connects to nothing."""
        self.app.send_task = _replacement(self.app, self)

    def due_ms(self, name: str, *, countdown: Any, eta: Any, task: Any) -> int | None:
        """Return when a task is due that is to wait in the timetable, None for one that Celery is to send as ever.

        Raises `InvalidSchedule` for an ETA that is no moment.
        """
        if name == NEVER_DEFERRED or getattr(task, "tw_defer", True) is False:
            return None
        tasks = self.tasks(name)
        if (
            tasks is None
            or not tasks.settings.allowed_tasks.allows(name)
            or tasks.settings.defer_eta == "off"
            or self.app.conf.task_protocol != 2
        ):
            return None
        now_ms = tasks.now_ms()
        due_ms = due_time_ms(self.app, countdown=countdown, eta=eta, now_ms=now_ms)
        return due_ms if due_ms - now_ms >= tasks.settings.defer_min_delay_ms else None

    def tasks(self, name: str) -> DeferredTasks | None:
        """Return what this process stores tasks with, made anew after a fork; None when the settings do not allow any."""
        if self._pid != os.getpid():
            try:
                storage = TaskStorage(self.app)
            except ImproperlyConfigured as error:
                self.fallbacks.record("misconfigured", task=name, why=error, now_ms=SystemClock().boot_ms())
                return None
            self._tasks = DeferredTasks(storage, self.fallbacks)
            self._entrance = Entrance(storage, self.past_lanes)
            self._pid = os.getpid()
        return self._tasks

    def has_lanes(self, said: str | None) -> bool:
        """Return whether a send for which a lane was *said*, or None, may have one."""
        return said is not None or self._knows_fair_queues() or self.routes.may_name_a_lane()

    def _knows_fair_queues(self) -> bool:
        if self._fair is None:
            self._fair = bool(self.app.conf.get("tw_fair_queues"))
        return self._fair

    def waits(self, name: str, *, countdown: Any, eta: Any) -> Waits | None:
        """Return what offers a task that is sent now to its lane; None for one that Celery is to send as ever.

        An ETA too near to be deferred does not keep a task from its lane.
        """
        if not self._knows_fair_queues() or name == NEVER_DEFERRED or self.app.conf.task_protocol != 2:
            return None
        tasks = self.tasks(name)
        if tasks is None or self._entrance is None or not tasks.settings.allowed_tasks.allows(name):
            return None
        if countdown or eta:
            now_ms = tasks.now_ms()
            delay_ms = due_time_ms(self.app, countdown=countdown, eta=eta, now_ms=now_ms) - now_ms
            return self._entrance.waits if delay_ms < tasks.settings.defer_min_delay_ms else None
        return self._entrance.waits

    def producer(self, real: Any, *, due_ms: int) -> DeferringProducer:
        """Return the producer that stores what is published with it until *due_ms*."""
        assert self._tasks is not None
        tasks = self._tasks
        delay_ms = due_ms - tasks.now_ms()
        return DeferringProducer(self.app, real, due_ms=due_ms, delay_ms=delay_ms, store=partial(tasks.store, due_ms=due_ms))


def _replacement(app: Any, deferral: Deferral) -> Callable[..., Any]:
    """Return the function that takes the place of ``app.send_task``; its ``replaces`` is what somebody had put there before, or None."""
    before = vars(app).get("send_task")

    def original() -> Callable[..., Any]:
        return before if before is not None else partial(type(app).send_task, app)

    def send_task(
        name: str,
        args: Any = None,
        kwargs: Any = None,
        countdown: Any = None,
        eta: Any = None,
        task_id: Any = None,
        producer: Any = None,
        connection: Any = None,
        *more: Any,
        tw_defer: Any = True,
        lane: Any = None,
        **options: Any,
    ) -> Any:
        """Send a task by name; see `Celery.send_task`. *tw_defer* is False for a task that is to have Celery's own ETA.

        *lane* is high, medium or low; raises `InvalidLane` for anything else.
        """
        task, due_ms = options.get("task_type") or app._tasks.get(name), None
        said = said_lane(lane, options.get("headers"), task)
        laned = deferral.has_lanes(said)
        if lane is not None:
            keep_in_chain(options, lane)
        if collects(app):
            if not laned:
                return original()(name, args, kwargs, countdown, eta, task_id, producer, connection, *more, **options)
            with app.producer_or_acquire(producer) as real:
                marking = LaneProducer(app, real, said=said, waits=None)
                return original()(name, args, kwargs, countdown, eta, task_id, marking, connection, *more, **options)
        if (countdown or eta) and tw_defer is not False:
            due_ms = deferral.due_ms(name, countdown=countdown, eta=eta, task=task)
        mid = mint(task_id, retries=options.get("retries") or 0, snoozes=snoozes_of(options.get("headers")))
        headers = identified(options.get("headers"), mid)
        task_id = join(app, headers, task_id, countdown=countdown, eta=eta)
        draw_number(task, mid, args, kwargs, task_id=task_id, later=due_ms is not None)
        if due_ms is not None:
            headers[ETA] = due_ms
        else:
            note_first_send(task, headers)
        routed = options.get("headers") is None and deferral.routes.possible()
        if not routed:
            options["headers"] = headers
            if due_ms is None and not laned:
                return original()(name, args, kwargs, countdown, eta, task_id, producer, connection, *more, **options)
        if connection:
            producer = app.amqp.Producer(connection, auto_declare=False)
        with app.producer_or_acquire(producer or options.pop("publisher", None)) as real:
            stand_in, waits = real, None
            if due_ms is not None:
                stand_in, countdown, eta = deferral.producer(real, due_ms=due_ms), None, None
            elif laned:
                waits = deferral.waits(name, countdown=countdown, eta=eta)
            if laned:
                stand_in = LaneProducer(app, stand_in, said=said, waits=waits)
            if routed:
                stand_in = MarkingProducer(stand_in, headers)
            return original()(name, args, kwargs, countdown, eta, task_id, stand_in, None, *more, **options)

    send_task.replaces = before  # type: ignore[attr-defined]
    return send_task
