"""Assembly: puts an engine together from its parts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import redis

from celery_tw.clock import Clock, RedisTime
from celery_tw.core.identity import FireIds
from celery_tw.core.shares import Ageing
from celery_tw.leadership.elector import Elector
from celery_tw.scheduler.admission import Admission
from celery_tw.scheduler.backlog import Backlogs
from celery_tw.scheduler.dispatch import Dispatch
from celery_tw.scheduler.engine import Engine
from celery_tw.scheduler.entries import Entries
from celery_tw.scheduler.gauges import Gauges
from celery_tw.scheduler.holding import Holding
from celery_tw.scheduler.horizon import Horizon
from celery_tw.scheduler.one_time import OneTimeTasks
from celery_tw.scheduler.ports import Installer, Workshop
from celery_tw.scheduler.recurring import RecurringEntries
from celery_tw.scheduler.refusals import Refusals
from celery_tw.scheduler.rooms import Rooms
from celery_tw.scheduler.upcoming import Upcoming
from celery_tw.settings import Settings
from celery_tw.stores.redis.admitting import Admitting
from celery_tw.stores.redis.dispatching import Dispatching
from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.redis.lanes import Lanes
from celery_tw.stores.redis.open_fires import OpenFires
from celery_tw.stores.redis.timetable import Timetable

KEPT_FOR_LANES = 200
"""What is due leaves so much of the outbox to what waits in lanes."""


def assemble(
    client: redis.Redis,
    keys: Keys,
    settings: Settings,
    *,
    namespace: str,
    elector: Elector,
    workshop: Workshop,
    installer: Installer,
    clock: Clock,
    redis_time: RedisTime,
    room: Callable[[], int] | None = None,
    supersede: Callable[[str, Sequence[str]], None] = lambda name, task_ids: None,
    rooms: Rooms | None = None,
    measure_soon: Callable[[], None] = lambda: None,
) -> Engine:
    """Return an engine for one shard; nothing is connected or started yet.

    *room* tells how much the outbox takes, if there is one. *supersede* asks tasks of an entry's earlier fires to stop. *rooms* is what
    fair queues have room for, as somebody measures them; *measure_soon* asks for that.
    """
    fair = _FairQueues(rooms or Rooms(), measure_soon)
    common = _common(client, keys, settings, namespace=namespace, workshop=workshop, elector=elector)
    one_time = _one_time(common, workshop=workshop, elector=elector, fair=fair)
    recurring = _recurring(common, supersede=supersede, fair=fair)
    return Engine(
        elector=elector,
        horizon=common.horizon,
        upcoming=common.upcoming,
        holding=common.holding,
        entries=common.entries,
        dispatch=_dispatch(common, one_time, recurring, room=None if room is None else partial(fair.left_of, room)),
        backlogs=_backlogs(common, settings),
        dispatching=common.dispatching,
        installer=installer,
        clock=clock,
        redis_time=redis_time,
        gauges=common.gauges,
        admission=_admission(
            common, one_time, settings, admitting=admitting_on(client, keys, settings, clock), rooms=fair.rooms, outbox_room=room
        ),
        on_entered=fair.entered,
    )


@dataclass(frozen=True, slots=True)
class _FairQueues:
    """What tells the measuring of fair queues when to look again."""

    rooms: Rooms
    measure_soon: Callable[[], None]

    def laned(self, queue: str) -> None:
        """Take note that the leader has put something into a lane of *queue*."""
        if not self.rooms.something_waits(queue):
            self.measure_soon()

    def entered(self, queue: str) -> None:
        """Take note that a sender has."""
        self.rooms.used_up(queue)
        self.measure_soon()

    def left_of(self, room: Callable[[], int]) -> int:
        """Return what *room* the outbox has for what is due."""
        return room() - (KEPT_FOR_LANES if self.rooms.wanted() else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Common:
    """What the parts of one engine share: its stores, and what it holds in memory."""

    timetable: Timetable
    dispatching: Dispatching
    open_fires: OpenFires
    fire_ids: FireIds
    upcoming: Upcoming
    gauges: Gauges
    entries: Entries
    horizon: Horizon
    holding: Holding
    refusals: Refusals


def _common(client: redis.Redis, keys: Keys, settings: Settings, *, namespace: str, workshop: Workshop, elector: Elector) -> _Common:
    timetable, gauges, upcoming = Timetable(client, keys), Gauges(), Upcoming()
    dispatching = Dispatching(
        client,
        keys,
        lease_ms=settings.leader_lease_ms,
        history_size=settings.history_size,
        allowed=settings.allowed_tasks,
        open_ms=settings.overlap_expires_ms,
        fingerprint=workshop.broker_fingerprint,
    )
    refusals = Refusals(dispatching=dispatching, upcoming=upcoming, gauges=gauges)
    entries = Entries(timetable, workshop)
    entries.on_unreadable, entries.on_unable, entries.on_newer = refusals.quarantine, refusals.unable, elector.ask_to_stand_down
    horizon = Horizon(dispatching, levels=settings.wheel_levels, capacity=settings.wheel_capacity)
    horizon.on_bad_member = refusals.quarantine_member
    return _Common(
        timetable=timetable,
        dispatching=dispatching,
        open_fires=OpenFires(client, keys),
        fire_ids=FireIds(namespace),
        upcoming=upcoming,
        gauges=gauges,
        entries=entries,
        horizon=horizon,
        holding=Holding(horizon=horizon, upcoming=upcoming, gauges=gauges),
        refusals=refusals,
    )


def _one_time(common: _Common, *, workshop: Workshop, elector: Elector, fair: _FairQueues) -> OneTimeTasks:
    return OneTimeTasks(
        dispatching=common.dispatching,
        timetable=common.timetable,
        upcoming=common.upcoming,
        workshop=workshop,
        refusals=common.refusals,
        gauges=common.gauges,
        hold=common.holding.hold,
        on_newer=elector.ask_to_stand_down,
        on_laned=fair.laned,
    )


def _recurring(common: _Common, *, supersede: Callable[[str, Sequence[str]], None], fair: _FairQueues) -> RecurringEntries:
    return RecurringEntries(
        dispatching=common.dispatching,
        timetable=common.timetable,
        entries=common.entries,
        upcoming=common.upcoming,
        fire_ids=common.fire_ids,
        refusals=common.refusals,
        gauges=common.gauges,
        hold=common.holding.hold,
        open_fires=common.open_fires,
        supersede=supersede,
        on_laned=fair.laned,
    )


def _dispatch(common: _Common, one_time: OneTimeTasks, recurring: RecurringEntries, *, room: Callable[[], int] | None) -> Dispatch:
    return Dispatch(
        upcoming=common.upcoming,
        entries=common.entries,
        one_time=one_time,
        recurring=recurring,
        refusals=common.refusals,
        line=common.dispatching.line,
        room=room,
    )


def _backlogs(common: _Common, settings: Settings) -> Backlogs:
    return Backlogs(
        dispatching=common.dispatching,
        entries=common.entries,
        open_fires=common.open_fires,
        fire_ids=common.fire_ids,
        gauges=common.gauges,
        catch_up_rate=settings.catch_up_rate,
    )


def _admission(
    common: _Common,
    one_time: OneTimeTasks,
    settings: Settings,
    *,
    admitting: Admitting,
    rooms: Rooms,
    outbox_room: Callable[[], int] | None,
) -> Admission:
    return Admission(
        admitting=admitting,
        dispatching=common.dispatching,
        one_time=one_time,
        rooms=rooms,
        gauges=common.gauges,
        hold=common.holding.hold,
        shares=settings.lane_shares,
        ageing=ageing_of(settings),
        outbox_room=outbox_room,
    )


def admitting_on(client: redis.Redis, keys: Keys, settings: Settings, clock: Clock) -> Admitting:
    """Return the leader's verbs on lanes."""
    lease_ms = settings.leader_lease_ms
    return Admitting(client, keys, Lanes(client, keys, lease_ms=lease_ms, clock=clock), lease_ms=lease_ms)


def ageing_of(settings: Settings) -> Ageing:
    """Return how messages age in lanes."""
    return Ageing(
        low_to_medium_ms=settings.aging_low_to_medium_ms,
        medium_to_high_ms=settings.aging_medium_to_high_ms,
        starving_ms=settings.starvation_alert_ms,
    )
