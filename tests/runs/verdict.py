"""Verdict: what is wrong with a round, given what was sent, what the bodies wrote, and who was killed when.

It is a pure function of values. A body that begins a second time needs an excuse, and there is one alone: the process that had it before
was killed meanwhile, before the body had ended or so shortly after that its outcome may not have been on record.

================  =============================================================================================================
wrong             the result of a send is not the one it must have
lost              a send has no result
repeated          a body began again without an excuse
two at a time     a body began while another of the same run, or of the same lock, was under way in a living process
never begun       a send has no result, and a message of it that the broker had taken was never received by a worker, on Redis: one
                  that dies between taking a message off its queue and noting that it has it, which kombu does in two steps,
                  loses it. Counted apart; on RabbitMQ it is lost as any other.
================  =============================================================================================================
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from celery_tw.testing.ledger import Line, What

ON_RECORD_MS = 2000
"""So long after its end the outcome of a body is on record, on a busy machine too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One send: the id of its result, those of all its tasks, and what must come of it."""

    kind: str
    result_id: str
    task_ids: Sequence[str]
    expected: Any


@dataclass(frozen=True, slots=True)
class Body:
    """One begin of a body, and when it came to its end, if it did."""

    mid: str
    task_id: str
    pid: int
    lock: str | None
    begun_ms: int
    ended_ms: int | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong, as sentences, and how much was looked at."""

    sent: int = 0
    bodies: int = 0
    again: int = 0
    violations: list[str] = field(default_factory=list)
    never_begun: list[str] = field(default_factory=list)


def judge(
    sent: Iterable[Sent], results: Mapping[str, Any], lines: Iterable[Line], killed: Mapping[int, int], *, transport_may_lose: bool
) -> Verdict:
    """Return what is wrong; *results* by result id, *killed* from pid to the ms at which it was killed."""
    sent, lines = list(sent), list(lines)
    bodies = bodies_of(lines)
    by_mid: dict[str, list[Body]] = defaultdict(list)
    by_lock: dict[str, list[Body]] = defaultdict(list)
    for body in bodies:
        by_mid[body.mid].append(body)
        if body.lock:
            by_lock[body.lock].append(body)
    received = {line.mid for line in lines if line.what is What.RECEIVED}
    astray = {line.task_id for line in lines if line.what is What.PUBLISHED and line.mid not in received} if transport_may_lose else set()
    missing = [each for each in sent if each.result_id not in results]
    unbegun = [each for each in missing if not astray.isdisjoint(each.task_ids)]
    return Verdict(
        sent=len(sent),
        bodies=len(bodies),
        again=sum(len(runs) - 1 for runs in by_mid.values()),
        violations=[
            *(f"lost: {each.kind} {each.result_id}" for each in missing if each not in unbegun),
            *(
                f"wrong: {each.kind} {each.result_id} is {results[each.result_id]!r}, not {each.expected!r}"
                for each in sent
                if each.result_id in results and results[each.result_id] != each.expected
            ),
            *(f"repeated: {first} then {second}" for runs in by_mid.values() for first, second in _repeated(runs, killed)),
            *(
                f"two at a time: {first} and {second}"
                for runs in [*by_mid.values(), *by_lock.values()]
                for first, second in _at_a_time(runs, killed)
            ),
        ],
        never_begun=[f"{each.kind} {each.result_id}" for each in unbegun],
    )


def bodies_of(lines: Iterable[Line]) -> list[Body]:
    """Return each begin of a body with its end: the next line of the same run by the same process that says so."""
    bodies: list[Body] = []
    open_at: dict[tuple[str | None, int], int] = {}
    for line in lines:
        pid = line.value["pid"]
        if line.what is What.STARTED:
            open_at[line.mid, pid] = len(bodies)
            bodies.append(Body(line.mid or "", line.task_id or "", pid, line.value.get("lock"), line.at_ms, None))
        elif line.what is What.ENDED and (line.mid, pid) in open_at:
            at = open_at.pop((line.mid, pid))
            begun = bodies[at]
            bodies[at] = Body(begun.mid, begun.task_id, pid, begun.lock, begun.begun_ms, line.at_ms)
    return bodies


def _repeated(runs: Sequence[Body], killed: Mapping[int, int]) -> Iterable[tuple[Body, Body]]:
    """Return the pairs of begins of one run without an excuse."""
    for first, second in pairwise(runs):
        until_ms = second.begun_ms if first.ended_ms is None else min(second.begun_ms, first.ended_ms + ON_RECORD_MS)
        if not first.begun_ms <= killed.get(first.pid, -1) <= until_ms:
            yield first, second


def _at_a_time(runs: Sequence[Body], killed: Mapping[int, int]) -> Iterable[tuple[Body, Body]]:
    ordered = sorted(runs, key=lambda body: body.begun_ms)
    for index, first in enumerate(ordered):
        over_ms = min(first.ended_ms or 2**53, killed.get(first.pid, 2**53))
        for second in ordered[index + 1 :]:
            if second.begun_ms < over_ms:
                yield first, second
