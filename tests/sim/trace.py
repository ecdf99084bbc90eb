"""Trace: everything that a simulation is told: the seed of its delays, who takes part, what is asked and what goes wrong.

`draw` makes one from a seed. A trace is a plain value and prints as the Python that makes it again; leaving out an operation or a fault
leaves a trace, which is how a failing one is made short.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from celery_tw.core.lane import LANES
from tests.sim import faults as f
from tests.sim import workload as w
from tests.sim.faults import ANY_SCHEDULER, Fault
from tests.sim.workload import Operation

BEGIN_MS = 1000
ACTIVE_MS = 12_000

LANED_REVISION = 1000
RARELY_LONG_MS = (50, 200, 900, 1500, 3500, 5500)
WITH_LANES = 0.25
LANE_CALLS = ("admit", "admit", "admit", "make_room", "make_room", "zrange", "llen", "smembers", "hgetall")
REPEATED = "repeated "
GIVEN_UP_MS = (1100, 1400)
HELD_UP_MS = (600, 900)
LEADERS_CALLS = ("fire", "fire", "fire_once", "fire_once", "drain", "drain", "renew", "poll", "page", "hmget", "xread")
CALLS_OF: dict[type[Operation], tuple[str, ...]] = {
    w.Put: ("put", "put", "hmget"),
    w.Pause: ("change", "hmget"),
    w.Resume: ("change", "hmget"),
    w.Remove: ("remove",),
    w.PutOnce: ("put_once", "put_once"),
    w.Hurry: ("hurry",),
    w.Backfill: ("open_backlog",),
    w.Defer: ("defer", "defer"),
    w.Cancel: ("cancel", "cancel"),
    w.Send: ("enter", "enter", "enter", "lpush"),
    w.Boost: ("boost",),
}
"""The calls that an operation stands or falls with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One history to be played; *lease_ms* is the leaders', *work_ms* what a task of the fair queue takes (None: there is none)."""

    seed: int
    schedulers: int
    lease_ms: int
    operations: tuple[Operation, ...]
    faults: tuple[Fault, ...]
    work_ms: int | None = None

    def __str__(self) -> str:
        fair = "" if self.work_ms is None else f", tasks of the fair queue take {self.work_ms} ms"
        lines = [f"seed {self.seed}, {self.schedulers} scheduler(s), lease {self.lease_ms} ms{fair}"]
        steps: Sequence[Operation | Fault] = sorted((*self.operations, *self.faults), key=lambda step: step.at_ms)
        return "\n".join([*lines, *(f"  {step!r}," for step in steps)])


def draw(seed: int, *, faults: bool = True, focus: str = "", lanes: bool | None = None) -> Trace:
    """Return the trace of *seed*; with *focus* every fault strikes that call, the ``news`` or the ``clock``.

    A focus such as ``repeated fire`` lets that call come to the server late, about when it is repeated.

    *lanes* tells whether there is a fair queue; None leaves it to the seed. What concerns it is drawn apart and added, so that a seed
    without it makes the same history as ever.
    """
    chance = random.Random(seed)
    schedulers = chance.choice((1, 2, 2, 2, 3))
    operations = tuple(_operations(chance))
    trace = Trace(
        seed=seed,
        schedulers=schedulers,
        lease_ms=chance.choice((1500, 3000)),
        operations=operations,
        faults=tuple(_faults(chance, schedulers, operations, focus)) if faults and focus not in ("enter", *LANE_CALLS) else (),
    )
    apart = random.Random(f"lanes {seed}")
    drawn = apart.random() > 1 - WITH_LANES
    return _with_lanes(apart, trace, faults=faults, focus=focus) if (drawn if lanes is None else lanes) else trace


def _with_lanes(chance: random.Random, trace: Trace, *, faults: bool, focus: str) -> Trace:
    operations = _lane_operations(chance)
    added = _lane_faults(chance, operations, focus) if faults else []
    return replace(
        trace,
        operations=tuple(sorted((*trace.operations, *operations), key=lambda operation: operation.at_ms)),
        faults=(*trace.faults, *added),
        work_ms=chance.choice((20, 60, 200)),
    )


def _lane_operations(chance: random.Random) -> list[Operation]:
    """Return what goes to the fair queue: bursts of sends, and fires of entries and of one-time tasks."""
    operations: list[Operation] = []
    for number in range(chance.randint(1, 2)):
        for revision in range(chance.randint(1, 2)):
            at_ms = _moment(chance) if revision else _early(chance)
            operations.append(_put_laned(chance, f"lane-e{number}", at_ms, LANED_REVISION + 10 * number + revision))
    for number in range(chance.randint(1, 3)):
        made = _one_time(chance, f"lane-once{number}", _moment(chance), LANED_REVISION + 100 + number)
        operations += [replace(step, lane=_lane(chance)) if isinstance(step, w.PutOnce) else step for step in made]
    for number in range(chance.randint(1, 4)):
        made = _deferred(chance, f"lane-task{number}", _moment(chance))
        operations += [replace(step, lane=_lane(chance)) if isinstance(step, w.Defer) else step for step in made]
    for burst in range(chance.randint(2, 4)):
        began_ms = _moment_near(chance, operations, within_ms=20)
        for number in range(chance.randint(3, 12)):
            operations += _sent(chance, f"lane-send{burst}.{number}", began_ms + chance.randrange(300))
    return operations


def _put_laned(chance: random.Random, name: str, at_ms: int, revision: int) -> Operation:
    return replace(_put(chance, name, at_ms, revision), lane=_lane(chance))  # type: ignore[call-arg]


def _sent(chance: random.Random, name: str, at_ms: int) -> list[Operation]:
    first = w.Send(at_ms=at_ms, client=_client(chance), name=name, lane=_lane(chance))
    then = chance.choice((None, None, None, None, "cancel", "boost"))
    if then is None:
        return [first]
    later_ms, client = at_ms + chance.randrange(300), _client(chance)
    if then == "cancel":
        return [first, w.Cancel(at_ms=later_ms, client=client, name=name)]
    return [first, w.Boost(at_ms=later_ms, client=client, name=name, to=_lane(chance))]


def _lane(chance: random.Random) -> str:
    return chance.choice(LANES)


def _lane_faults(chance: random.Random, operations: Sequence[Operation], focus: str) -> list[Fault]:
    if focus and focus not in ("enter", *LANE_CALLS):
        return []
    return [_lane_fault(chance, operations, focus) for _ in range(3 if focus else chance.choice((0, 1, 1, 2, 3)))]


def _lane_fault(chance: random.Random, operations: Sequence[Operation], focus: str) -> Fault:
    operation = chance.choice([operation for operation in operations if isinstance(operation, w.Send)])
    call = focus or chance.choice(("enter", "enter", "lpush", *LANE_CALLS))
    if call in LANE_CALLS:
        return _call_fault(chance, operation.at_ms + chance.randrange(500), ANY_SCHEDULER, call)
    return _call_fault(chance, operation.at_ms, operation.client, call)


def _operations(chance: random.Random) -> list[Operation]:
    operations: list[Operation] = []
    revision = 0
    for number in range(chance.randint(2, 4)):
        name = f"e{number}"
        operations.append(_put(chance, name, _early(chance), revision := revision + 1))
        for _ in range(chance.randint(0, 4)):
            revision += 1
            at_ms = _moment_near(chance, operations, within_ms=20)
            operations.append(_change(chance, operations, name, at_ms, revision))
    for number in range(chance.randint(2, 5)):
        revision += 1
        operations += _one_time(chance, f"once{number}", _moment(chance), revision)
    for number in range(chance.randint(1, 4)):
        operations += _deferred(chance, f"task{number}", _moment(chance))
    return sorted(operations, key=lambda operation: operation.at_ms)


def _early(chance: random.Random) -> int:
    return chance.randint(0, 1500)


def _moment(chance: random.Random) -> int:
    return BEGIN_MS + chance.randrange(ACTIVE_MS)


def _moment_near(chance: random.Random, operations: Sequence[Operation], *, within_ms: int) -> int:
    """Return a moment that is, half of the time, that of an operation or a little before: where things meet, things go wrong."""
    late = [operation.at_ms for operation in operations if operation.at_ms > BEGIN_MS + within_ms]
    if not late or chance.random() < 0.5:
        return _moment(chance)
    return chance.choice(late) - chance.randrange(within_ms)


def _client(chance: random.Random) -> str:
    return chance.choice(("c0", "c1"))


def _put(chance: random.Random, name: str, at_ms: int, revision: int) -> Operation:
    misfire = chance.choice(("latest", "latest", "skip", "catch_up", "catch_up"))
    return w.Put(
        at_ms=at_ms,
        client=_client(chance),
        name=name,
        period_ms=chance.choice((500, 700, 1000, 1000, 2000, 5000)),
        revision=revision,
        misfire=misfire,
        limit=chance.choice((2, 100)) if misfire == "catch_up" else 0,
        tolerance_ms=chance.choice((200, 1000, 5000)),
        jitter_ms=chance.choice((0, 0, 0, 300)),
        max_runs=chance.choice((None, None, None, 5)),
    )


def _change(chance: random.Random, operations: Sequence[Operation], name: str, at_ms: int, revision: int) -> Operation:
    kind = chance.choice(("put", "put", "resend", "pause", "resume", "resume", "remove", "backfill"))
    if kind == "resend":  # only what the entry sends changes
        before = [operation for operation in operations if isinstance(operation, w.Put) and operation.name == name]
        return replace(before[-1], at_ms=at_ms, client=_client(chance), revision=revision)
    if kind == "put":
        return _put(chance, name, at_ms, revision)
    if kind == "backfill":
        return w.Backfill(at_ms=at_ms, client=_client(chance), name=name, back_ms=chance.choice((1000, 4000)))
    verb: Callable[..., Operation] = {"pause": w.Pause, "resume": w.Resume, "remove": w.Remove}[kind]
    return verb(at_ms=at_ms, client=_client(chance), name=name)


def _one_time(chance: random.Random, name: str, at_ms: int, revision: int) -> list[Operation]:
    client, in_ms = _client(chance), chance.choice((0, 50, 300, 1000, 4000))
    misfire, tolerance_ms = chance.choice((("latest", 5000), ("latest", 5000), ("skip", 1000)))
    first = w.PutOnce(at_ms=at_ms, client=client, name=name, in_ms=in_ms, revision=revision, misfire=misfire, tolerance_ms=tolerance_ms)
    verb: Callable[..., Operation] | None = chance.choice((None, None, w.Pause, w.Resume, w.Remove, w.Hurry))
    if verb is None:
        return [first]
    return [first, verb(at_ms=at_ms + chance.randrange(in_ms + 500), client=_client(chance), name=name)]


def _deferred(chance: random.Random, name: str, at_ms: int) -> list[Operation]:
    in_ms = chance.choice((50, 300, 1000, 4000))
    first = w.Defer(at_ms=at_ms, client=_client(chance), name=name, in_ms=in_ms)
    if chance.random() < 0.5:
        return [first]
    return [first, w.Cancel(at_ms=at_ms + chance.randrange(in_ms + 500), client=_client(chance), name=name)]


def _faults(chance: random.Random, schedulers: int, operations: Sequence[Operation], focus: str) -> list[Fault]:
    if focus.startswith(REPEATED):
        call = focus.removeprefix(REPEATED)
        asked = [operation.at_ms for operation in operations if call == "drain" and isinstance(operation, w.Backfill | w.Resume)]
        return [fault for _ in range(3) for fault in _repeated(chance, chance.choice(asked) if asked else _moment(chance), call)]
    if focus:
        return [_focused(chance, operations, focus) for _ in range(3)]
    return [_fault(chance, schedulers, operations) for _ in range(chance.choice((0, 1, 2, 2, 3, 5)))]


def _focused(chance: random.Random, operations: Sequence[Operation], focus: str) -> Fault:
    asked = [operation for operation in operations if focus in CALLS_OF[type(operation)]]
    if focus == "news":
        return f.TrimNews(at_ms=chance.choice(operations).at_ms)
    if focus == "clock":
        return f.ServerClock(at_ms=_moment(chance), step_ms=chance.choice((-8000, -3000, -400, 3000)))
    if focus in LEADERS_CALLS or not asked:
        edits = _edits(operations)
        at_ms = chance.choice(edits).at_ms - chance.randrange(700) if edits else _moment(chance)
        return _call_fault(chance, at_ms, ANY_SCHEDULER, focus)
    operation = chance.choice(asked)
    return _call_fault(chance, operation.at_ms, operation.client, focus)


def _repeated(chance: random.Random, at_ms: int, call: str) -> list[Fault]:
    """Return what brings a leader's *call* to the server between the reading and the arrival of its repetition.

    The caller gives the call up, reads again what it is about, and is held up when it repeats it. A call that comes sooner is seen by the
    reading, and one that comes later than its repetition is refused by its number: one fault alone meets neither the due time nor the mark.
    """
    first = f.Delay(at_ms=at_ms, host=ANY_SCHEDULER, call=call, for_ms=chance.choice(GIVEN_UP_MS))
    held_ms = chance.choice(HELD_UP_MS)
    delay = f.Delay(at_ms=at_ms + 1, host=ANY_SCHEDULER, call=call, for_ms=held_ms)
    freeze = f.Freeze(at_ms=at_ms + 1, host=ANY_SCHEDULER, call=call, where="before", for_ms=held_ms)
    return [first, chance.choice((delay, freeze))]


def _edits(operations: Sequence[Operation]) -> list[w.Put]:
    """Return the operations that change an entry; those that leave its times alone, if there are such."""
    first: dict[str, w.Put] = {}
    edits = [put for put in operations if isinstance(put, w.Put) and first.setdefault(put.name, put) is not put]
    return [put for put in edits if put.period_ms == first[put.name].period_ms] or edits


def _fault(chance: random.Random, schedulers: int, operations: Sequence[Operation]) -> Fault:
    whom = chance.choice(("client", "client", "client", "scheduler", "scheduler", "scheduler", "scheduler", "all", "all"))
    if whom == "client":
        operation = chance.choice(operations)
        return _call_fault(chance, operation.at_ms, operation.client, chance.choice(("", *CALLS_OF[type(operation)])))
    at_ms = _moment_near(chance, operations, within_ms=400)
    if whom == "all":
        return _fault_of_all(chance, at_ms, schedulers)
    host = chance.choice((f"s{chance.randrange(schedulers)}", ANY_SCHEDULER))
    if chance.random() < 0.15:
        return f.Stop(at_ms=at_ms, host=f"s{chance.randrange(schedulers)}", restart_ms=chance.choice(RARELY_LONG_MS))
    return _call_fault(chance, at_ms, host, chance.choice(("", *LEADERS_CALLS)))


def _call_fault(chance: random.Random, at_ms: int, host: str, call: str) -> Fault:
    long_ms = chance.choice(RARELY_LONG_MS)
    where: f.Where = chance.choice(("before", "after"))
    kind = chance.choice(("crash", "freeze", "freeze", "lose", "lose", "delay", "refuse"))
    match kind:
        case "crash":
            return f.Crash(at_ms=at_ms, host=host, call=call, where=where, restart_ms=long_ms)
        case "freeze":
            return f.Freeze(at_ms=at_ms, host=host, call=call, where=where, for_ms=long_ms)
        case "lose":
            return f.LoseReply(at_ms=at_ms, host=host, call=call, how=chance.choice(("reset", "timeout", "timeout")))
        case "delay":
            return f.Delay(at_ms=at_ms, host=host, call=call, for_ms=long_ms)
        case _:
            return f.Refuse(at_ms=at_ms, host=host, call=call, error=chance.choice(f.ERRORS), times=chance.choice((1, 1, 3)))


def _fault_of_all(chance: random.Random, at_ms: int, schedulers: int) -> Fault:
    kind = chance.choice(("outage", "stall", "reset", "clock", "wall", "flush", "trim", "trim", "trim"))
    long_ms = chance.choice(RARELY_LONG_MS)
    match kind:
        case "outage":
            return f.Outage(at_ms=at_ms, for_ms=long_ms)
        case "stall":
            return f.Stall(at_ms=at_ms, for_ms=long_ms)
        case "reset":
            return f.Reset(at_ms=at_ms)
        case "clock":
            return f.ServerClock(at_ms=at_ms, step_ms=chance.choice((-8000, -3000, -400, 400, 3000, 8000)))
        case "wall":
            return f.HostClock(at_ms=at_ms, host=f"s{chance.randrange(schedulers)}", step_ms=chance.choice((-3_600_000, 7000, 3_600_000)))
        case "flush":
            return f.FlushScripts(at_ms=at_ms)
        case _:
            return f.TrimNews(at_ms=at_ms)
