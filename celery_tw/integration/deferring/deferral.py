"""Deferral: tasks with an ``eta`` or a ``countdown`` wait in the timetable, not in a worker.

Everything that sends a task ends in ``app.send_task``: ``apply_async``, ``send_task`` by name, ``Task.retry``, each part of a canvas.
So it is replaced, on the app's instance::

    send_task(…, countdown=300)
        └─ Celery's own send_task, without the ETA and with a deferring producer
             ├─ routes, serialises, signals, subscribes to the result: as ever, once, in this process
             └─ publish ─▶ DEFER (a leader is seen) ─▶ waits in Redis ─▶ the leader fires it, when it is due
                       └─▶ else Celery's own ETA: no beat, no surprise

Left to Celery: what is due in less than ``tw_defer_min_delay``, ``celery.chord_unlock`` (which sends itself again each second), messages of
protocol 1, and what opts out: ``apply_async(tw_defer=False)``, ``tw_defer = False`` on the task, ``tw_defer_exclude_queues``.

Each send gets a new ``tw_mid``, with or without an ETA. A leader that renders the fire of an entry is no sender: it brings ids of its own.

Where a task may have a lane another producer stands between, which writes the lane into the message and offers the task to it
(``lanes/lane_producer.py``). An app without fair queues pays nothing for that. How a send goes is decided first, as a `Way`: one that
simply goes has none, and no producer of ours.
"""

import os
from collections.abc import Mapping
from functools import partial
from typing import Any

from celery_tw.clock import SystemClock
from celery_tw.core.identity import random_id
from celery_tw.errors import ImproperlyConfigured
from celery_tw.integration.deferring.deferred_tasks import DeferredTasks
from celery_tw.integration.deferring.deferring_producer import DeferringProducer
from celery_tw.integration.deferring.due_times import due_time_ms
from celery_tw.integration.deferring.fallbacks import Fallbacks
from celery_tw.integration.deferring.route_headers import MarkingProducer, RouteHeaders
from celery_tw.integration.deferring.send_task import replacement
from celery_tw.integration.deferring.task_storage import TaskStorage
from celery_tw.integration.deferring.way import Way
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
        self.app.send_task = replacement(self.app, self)

    def way(self, name: str, args: Any, kwargs: Any, options: dict[str, Any]) -> Way | None:
        """Take our own words out of the *options* of a send and write into them who it is; return its way, None when it simply goes.

        A task of a counted entry, or of an order, is announced in Redis here.

        Raises `InvalidLane` and `InvalidSchedule` for a lane, or an ETA, that is none.
        """
        task = options.get("task_type") or self.app._tasks.get(name)
        lane, deferrable = options.pop("lane", None), options.pop("tw_defer", True) is not False
        said = said_lane(lane, options.get("headers"), task)
        laned = self._has_lanes(said)
        if lane is not None:
            keep_in_chain(options, lane)
        if collects(self.app):
            return Way(laned=True, said=said) if laned else None
        countdown, eta = options.get("countdown"), options.get("eta")
        due_ms = self._due_ms(name, countdown=countdown, eta=eta, task=task) if (countdown or eta) and deferrable else None
        marks = self._identify(task, args, kwargs, options, due_ms=due_ms)
        if due_ms is not None:
            options["countdown"] = options["eta"] = None
            return Way(due_ms=due_ms, laned=laned, said=said, marks=marks)
        if laned:
            return Way(laned=True, said=said, waits=self._waits(name, countdown=countdown, eta=eta), marks=marks)
        return None if marks is None else Way(marks=marks)

    def _identify(self, task: Any, args: Any, kwargs: Any, options: dict[str, Any], *, due_ms: int | None) -> Mapping[str, Any] | None:
        """Put our headers and the task's id into *options*; return the headers instead when its route may have some, None otherwise.

        A task that has no id yet takes its mid as one, which saves drawing another.
        """
        brought, task_id = options.get("headers"), options.get("task_id")
        mid = mint(task_id, retries=options.get("retries") or 0, snoozes=snoozes_of(brought)) if task_id else random_id()
        headers = identified(brought, mid)
        task_id = join(self.app, headers, task_id, countdown=options.get("countdown"), eta=options.get("eta")) or mid
        draw_number(task, mid, args, kwargs, task_id=task_id, later=due_ms is not None)
        if due_ms is not None:
            headers[ETA] = due_ms
        else:
            note_first_send(task, headers)
        options["task_id"] = task_id
        if brought is None and self.routes.possible():
            return headers
        options["headers"] = headers
        return None

    def stand_in(self, real: Any, way: Way) -> Any:
        """Return the producer that Celery is given in the place of the producer *real*."""
        if way.due_ms is not None:
            real = self._deferring(real, due_ms=way.due_ms)
        if way.laned:
            real = LaneProducer(self.app, real, said=way.said, waits=way.waits)
        return real if way.marks is None else MarkingProducer(real, way.marks)

    def _due_ms(self, name: str, *, countdown: Any, eta: Any, task: Any) -> int | None:
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

    def _has_lanes(self, said: str | None) -> bool:
        """Return whether a send for which a lane was *said*, or None, may have one."""
        return said is not None or self._knows_fair_queues() or self.routes.may_name_a_lane()

    def _knows_fair_queues(self) -> bool:
        if self._fair is None:
            self._fair = bool(self.app.conf.get("tw_fair_queues"))
        return self._fair

    def _waits(self, name: str, *, countdown: Any, eta: Any) -> Waits | None:
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

    def _deferring(self, real: Any, *, due_ms: int) -> DeferringProducer:
        """Return the producer that stores what is published with it until *due_ms*."""
        assert self._tasks is not None
        tasks = self._tasks
        delay_ms = due_ms - tasks.now_ms()
        return DeferringProducer(self.app, real, due_ms=due_ms, delay_ms=delay_ms, store=partial(tasks.store, due_ms=due_ms))
