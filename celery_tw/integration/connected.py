"""Connected: everything one process needs to work with one app's timetable, made when it is first asked for.

Making it reads the settings and checks them; nothing is sent to Redis before the first verb.
"""

from functools import cached_property
from typing import Any

import redis

from celery_tw.clock import RedisTime, SystemClock
from celery_tw.core.identity import FireIds
from celery_tw.integration import broker
from celery_tw.integration.cancellation.cancelling import Canceller
from celery_tw.integration.deferring.eject import Ejector
from celery_tw.integration.dlq.dead_letters import DeadLetterBox
from celery_tw.integration.entries.book import Book
from celery_tw.integration.entries.drafting import Drafter
from celery_tw.integration.entries.reading import Reading
from celery_tw.integration.entries.static_entries import Static, read_settings
from celery_tw.integration.entries.storing import Storing
from celery_tw.integration.lanes.lanes import LaneControl
from celery_tw.integration.messages.rendering import Renderer
from celery_tw.integration.publishing.outbox_control import OutboxControl
from celery_tw.integration.runs.redis_runs import runs_on
from celery_tw.settings import Settings
from celery_tw.stores.redis.cancelling import Cancelling
from celery_tw.stores.redis.claims import Claims
from celery_tw.stores.redis.consumers import Consumers
from celery_tw.stores.redis.dead_letters import DeadLetters
from celery_tw.stores.redis.ejecting import Ejecting
from celery_tw.stores.redis.election import Election
from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.redis.lanes import Lanes
from celery_tw.stores.redis.refused_messages import RefusedMessages
from celery_tw.stores.redis.runs.runs import Runs
from celery_tw.stores.redis.terminations import Terminations
from celery_tw.stores.redis.timetable import Timetable


class Connected:
    """The parts of one process, sharing one client."""

    def __init__(self, app: Any) -> None:
        broker.redis_or_refuse(app)
        self.app = app
        self.settings = Settings.read(app.conf, app_name=app.main)
        self.keys = Keys(self.settings.namespace)
        self.fire_ids = FireIds(self.settings.namespace)
        self.clock = SystemClock()
        self.redis_time = RedisTime(self.clock)

    @cached_property
    def client(self) -> redis.Redis:
        return broker.connect(self.app)

    @cached_property
    def timetable(self) -> Timetable:
        return Timetable(self.client, self.keys)

    @cached_property
    def election(self) -> Election:
        return Election(self.client, self.keys)

    @cached_property
    def canceller(self) -> Canceller:
        return Canceller(self.app, self.timetable, Cancelling(self.client, self.keys), self.runs, self.terminations)

    @cached_property
    def runs(self) -> Runs:
        return runs_on(self.app, self.client, self.keys, self.settings, self.redis_time)

    @cached_property
    def terminations(self) -> Terminations:
        return Terminations(self.client, self.keys)

    @cached_property
    def ejector(self) -> Ejector:
        return Ejector(self.app, self.timetable, Ejecting(self.client, self.keys))

    @cached_property
    def lanes(self) -> LaneControl:
        lanes = Lanes(self.client, self.keys, lease_ms=self.settings.leader_lease_ms, clock=self.clock)
        return LaneControl(self.settings, lanes, Consumers(self.client, self.keys), self.timetable.now_ms)

    @cached_property
    def claims(self) -> Claims:
        return Claims(self.client, self.keys, lease_ms=self.settings.leader_lease_ms)

    @cached_property
    def outbox(self) -> OutboxControl:
        return OutboxControl(self.app, RefusedMessages(self.client, self.keys), self.dead_letters)

    @cached_property
    def dead_letters(self) -> DeadLetters:
        return DeadLetters(self.client, self.keys)

    @cached_property
    def dlq(self) -> DeadLetterBox:
        return DeadLetterBox(self.app, self.dead_letters, RefusedMessages(self.client, self.keys))

    @cached_property
    def renderer(self) -> Renderer:
        return Renderer(self.app, fair=self.settings.fair_queues)

    @cached_property
    def drafter(self) -> Drafter:
        return Drafter(self.app, self.settings)

    @cached_property
    def storing(self) -> Storing:
        return Storing(
            self.app,
            self.timetable,
            self.renderer,
            fire_ids=self.fire_ids,
            broker_fingerprint=broker.fingerprint(self.app),
            fair=self.settings.fair_queues,
        )

    @cached_property
    def statics(self) -> dict[str, Static]:
        return read_settings(self.app)

    @cached_property
    def book(self) -> Book:
        reading = Reading(self.app, self.timetable, fire_ids=self.fire_ids, statics=self.statics)
        return Book(self.app, self.timetable, drafter=self.drafter, storing=self.storing, reading=reading)
