"""Disturbance: when the world was so disturbed that nobody can ask for punctuality.

Each fault that struck a scheduler, or all, takes some time until its traces are gone: at most a lease until a dead leader is replaced, a
moment until what was lost has been read again, and for an entry that was refused the time for which it is kept back. What strikes clients
makes no scheduler late.
"""

from collections.abc import Iterator

from celery_tw.scheduler.refusals import REFUSED_WAIT_MS
from tests.sim.faults import (
    CallFault,
    Crash,
    Delay,
    FlushScripts,
    Freeze,
    HostClock,
    Outage,
    Refuse,
    Reset,
    ServerClock,
    Stall,
    Stop,
    TrimNews,
)
from tests.sim.simulation import Outcome

BEGINNING_MS = 1500
TAKE_OVER_MS = 2500
READ_AGAIN_MS = 1600
WRITERS = frozenset({"put", "change", "put_once", "defer", "hold", "hurry", "remove", "cancel"})

Window = tuple[int, int]


def disturbed(outcome: Outcome) -> list[Window]:
    """Return the disturbed times as pairs of ms since the beginning."""
    healed_ms = outcome.healed_us // 1000
    return [(0, BEGINNING_MS), *_of_faults(outcome), (healed_ms, healed_ms + outcome.trace.lease_ms + TAKE_OVER_MS)]


def _of_faults(outcome: Outcome) -> Iterator[Window]:
    heavy_ms = outcome.trace.lease_ms + TAKE_OVER_MS
    for at_ms, fault in outcome.strikes:
        match fault:
            case CallFault(host=host) if host.startswith("c"):
                continue
            case HostClock():
                continue
            case TrimNews():
                yield at_ms, _next_news_ms(outcome, at_ms) + READ_AGAIN_MS
            case FlushScripts():
                yield at_ms, at_ms + READ_AGAIN_MS
            case Freeze(for_ms=for_ms) | Delay(for_ms=for_ms) | Outage(for_ms=for_ms) | Stall(for_ms=for_ms):
                yield at_ms, at_ms + for_ms + heavy_ms
            case Crash(restart_ms=restart_ms) | Stop(restart_ms=restart_ms):
                yield at_ms, at_ms + restart_ms + heavy_ms
            case ServerClock(step_ms=step_ms):
                yield at_ms, at_ms + abs(step_ms) + 3 * heavy_ms
            case Refuse():
                yield at_ms, at_ms + max(heavy_ms, REFUSED_WAIT_MS + TAKE_OVER_MS)
            case Reset() | CallFault():
                yield at_ms, at_ms + heavy_ms


def _next_news_ms(outcome: Outcome, at_ms: int) -> int:
    """Return when the next news came, which tell whoever has missed some: the first after those that the stream was cut off with."""
    later = (event.call.at_us // 1000 for event in outcome.events if event.call.label in WRITERS)
    return next((moment_ms for moment_ms in later if moment_ms > at_ms), outcome.healed_us // 1000 + 100_000)
