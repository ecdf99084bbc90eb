"""SimulatedScheduler: one scheduler process, as `Node` puts it together, on virtual time.

Elector, engine and news reader are the real ones, each in a strand of its own, looped as ``scheduler/loops.py`` does. Only the workshop is
plain: its messages say which entry, slot, fire id and revision they are.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import redis

from celery_tw.clock import RedisTime
from celery_tw.core.bounds import Bounded
from celery_tw.core.command import Command, Fire
from celery_tw.core.definition import Definition
from celery_tw.core.spec import recurrence_from_spec
from celery_tw.errors import CeleryTWError, StoreRefused, StoreUnavailable
from celery_tw.leadership.elector import Elector
from celery_tw.scheduler.assembly import assemble
from celery_tw.scheduler.loops import RETRY_S
from celery_tw.scheduler.measuring import Measuring
from celery_tw.scheduler.ports import Prepared
from celery_tw.scheduler.rooms import Rooms
from celery_tw.settings import Settings
from celery_tw.stores.redis.consumers import Consumers
from celery_tw.stores.redis.election import Election
from celery_tw.stores.redis.news import NewsReader
from celery_tw.stores.redis.scripts import translated_errors
from tests.sim.messages import FAIR, QUEUE, enveloped, marked
from tests.sim.server import EPOCH_US, KEYS, Server
from tests.sim.timeline import Host, Strand, Timeline
from tests.sim.wire import Caller

LISTEN_MS = 500
FINGERPRINT = "sim"


class HostClock:
    """The clocks of one machine: a boot clock that never steps, a wall clock that may."""

    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        self.offset_ms = 0

    def boot_ms(self) -> int:
        return 1_000_000 + self.timeline.now_us // 1000

    def wall_ms(self) -> int:
        return (EPOCH_US + self.timeline.now_us) // 1000 + self.offset_ms


@dataclass(frozen=True)
class Message:
    """A message that says which entry, slot, fire and revision it is."""

    revision: int
    lane: str = ""
    timeless: bool = True

    def commands(self, fire: Fire) -> list[Command]:
        text = f"{fire.entry_name} {fire.slot_ms} {fire.fire_id} {self.revision}"
        if not self.lane:
            return [Command("lpush", QUEUE, marked(text))]
        message = enveloped(text, task_id=fire.fire_id, mid=fire.fire_id, lane=self.lane)
        return [Command("lpush", FAIR, message, queue=FAIR.decode(), lane=self.lane)]


class PlainWorkshop:
    """Prepares definitions without asking Celery; clients use it as their renderer too."""

    def prepare(self, definition: Definition) -> Prepared:
        recurrence = Bounded(recurrence_from_spec(definition.schedule), start_ms=definition.start_ms, end_ms=definition.end_ms)
        return Prepared(definition, recurrence, message_of(definition))

    def fingerprint(self) -> object:
        return 1

    def broker_fingerprint(self) -> str:
        return FINGERPRINT

    def render_again(self, record: bytes) -> bytes:
        return record


def message_of(definition: Definition) -> Message:
    """Return the message of a definition, which carries its revision and its lane as arguments."""
    arguments = definition.signature["kwargs"]
    return Message(int(arguments["revision"]), arguments.get("lane", ""))


class NoSettings:
    """Installs nothing."""

    def install(self) -> None:
        return None


class Lengths:
    """Tells how long queues are, which are lists without priorities."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client

    def measure(self, queues: Sequence[str]) -> dict[str, int]:
        with translated_errors("LLEN"):
            return {queue: self.client.llen(queue) for queue in queues}

    def close(self) -> None:
        return None


class SimulatedScheduler:
    """One process from its start to its end."""

    def __init__(self, name: str, timeline: Timeline, server: Server, clock: HostClock, settings: Settings) -> None:
        self.host = Host(name)
        self.timeline = timeline
        self.caller = Caller(self.host, timeline, server)
        client = self.caller.client()
        redis_time, rooms = RedisTime(clock), Rooms()
        self.elector = Elector(
            Election(client, KEYS),
            clock=clock,
            redis_time=redis_time,
            owner=name,
            lease_ms=settings.leader_lease_ms,
            max_skew_ms=settings.max_clock_skew_ms,
        )
        self.engine = assemble(
            client,
            KEYS,
            settings,
            namespace="sim",
            elector=self.elector,
            workshop=PlainWorkshop(),
            installer=NoSettings(),
            clock=clock,
            redis_time=redis_time,
            rooms=rooms,
            measure_soon=lambda: timeline.wake(self._measure) if self._measure else None,
        )
        self.measuring = Measuring(
            admitting=self.engine.admission.admitting,
            consumers=Consumers(client, KEYS),
            lengths=Lengths(client),
            rooms=rooms,
            elector=self.elector,
            clock=clock,
            fair=settings.fair_queues,
            default_capacity=settings.fair_capacity,
            wake=lambda: timeline.wake(self._work),
        )
        self.news = NewsReader(client, KEYS)
        self._listening = False
        self._elect = self._loop("elect", self._elect_step)
        self._work = self._loop("work", self.engine.step)
        self._listen = self._loop("listen", self._listen_step)
        self._measure = self._loop("measure", self.measuring.step) if settings.fair_queues else None

    def stop(self, then: Callable[[], None]) -> None:
        """End the loops, resign as `Node.close` does, and do *then*."""
        for strand in (self._elect, self._work, self._listen, self._measure):
            if strand is not None:
                strand.token += 1
        self.timeline.spawn(f"{self.host.name}:close", self.host, lambda: self._close(then))

    def _close(self, then: Callable[[], None]) -> None:
        with suppress(CeleryTWError):  # the lease runs out by itself
            self.elector.resign()
        self.host.dead = True
        then()

    def _loop(self, name: str, step: Callable[[], int]) -> Strand:
        def run() -> None:
            while True:
                try:
                    wait_ms = step()
                except (StoreUnavailable, StoreRefused):
                    wait_ms = int(RETRY_S * 1000)
                self.timeline.wait(wait_ms * 1000)

        return self.timeline.spawn(f"{self.host.name}:{name}", self.host, run)

    def _elect_step(self) -> int:
        before = self.elector.term
        wait_ms = self.elector.step()
        if (self.elector.term is None) != (before is None):
            self.timeline.wake(self._work)
        return wait_ms

    def _listen_step(self) -> int:
        if not self._listening:
            self.news.catch_up()
            self._listening = True
            self.engine.hear([], True)
        heard, missed = self.news.read(block_ms=LISTEN_MS)
        if heard:
            self.engine.hear(heard, missed)
            self.timeline.wake(self._work)
            if any(news.kind == "resigned" for news in heard):
                self.timeline.wake(self._elect)
        return 0
