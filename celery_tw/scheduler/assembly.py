"""Assembly: puts an engine together from its parts."""

from collections.abc import Callable, Sequence

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
    timetable, gauges, upcoming = Timetable(client, keys), Gauges(), Upcoming()
    rooms = rooms or Rooms()

    def on_laned(queue: str) -> None:
        if not rooms.something_waits(queue):
            measure_soon()

    def on_entered(queue: str) -> None:
        rooms.used_up(queue)
        measure_soon()

    def room_for_what_is_due() -> int:
        assert room is not None
        return room() - (KEPT_FOR_LANES if rooms.wanted() else 0)

    dispatching = Dispatching(
        client,
        keys,
        lease_ms=settings.leader_lease_ms,
        history_size=settings.history_size,
        allowed=settings.allowed_tasks,
        open_ms=settings.overlap_expires_ms,
        fingerprint=workshop.broker_fingerprint,
    )
    open_fires = OpenFires(client, keys)
    entries = Entries(timetable, workshop)
    horizon = Horizon(dispatching, levels=settings.wheel_levels, capacity=settings.wheel_capacity)
    fire_ids = FireIds(namespace)
    refusals = Refusals(dispatching=dispatching, upcoming=upcoming, gauges=gauges)
    holding = Holding(horizon=horizon, upcoming=upcoming, gauges=gauges)
    one_time = OneTimeTasks(
        dispatching=dispatching,
        timetable=timetable,
        upcoming=upcoming,
        workshop=workshop,
        refusals=refusals,
        gauges=gauges,
        hold=holding.hold,
        on_newer=elector.ask_to_stand_down,
        on_laned=on_laned,
    )
    recurring = RecurringEntries(
        dispatching=dispatching,
        timetable=timetable,
        entries=entries,
        upcoming=upcoming,
        fire_ids=fire_ids,
        refusals=refusals,
        gauges=gauges,
        hold=holding.hold,
        open_fires=open_fires,
        supersede=supersede,
        on_laned=on_laned,
    )
    entries.on_unreadable, entries.on_unable, entries.on_newer = refusals.quarantine, refusals.unable, elector.ask_to_stand_down
    horizon.on_bad_member = refusals.quarantine_member
    return Engine(
        elector=elector,
        horizon=horizon,
        upcoming=upcoming,
        holding=holding,
        entries=entries,
        dispatch=Dispatch(
            upcoming=upcoming,
            entries=entries,
            one_time=one_time,
            recurring=recurring,
            refusals=refusals,
            line=dispatching.line,
            room=None if room is None else room_for_what_is_due,
        ),
        backlogs=Backlogs(
            dispatching=dispatching,
            entries=entries,
            open_fires=open_fires,
            fire_ids=fire_ids,
            gauges=gauges,
            catch_up_rate=settings.catch_up_rate,
        ),
        dispatching=dispatching,
        installer=installer,
        clock=clock,
        redis_time=redis_time,
        gauges=gauges,
        admission=Admission(
            admitting=admitting_on(client, keys, settings, clock),
            dispatching=dispatching,
            one_time=one_time,
            rooms=rooms,
            gauges=gauges,
            hold=holding.hold,
            shares=settings.lane_shares,
            ageing=ageing_of(settings),
            outbox_room=room,
        ),
        on_entered=on_entered,
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
