"""Shrinking: from a trace that fails to a short one that fails the same way.

Greedy, in halves: leave out half of the steps, a quarter, … down to one by one, and keep whatever still breaks one of the same rules. Then
schedulers that nobody needs go. Every attempt is one simulation.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from tests.sim.oracles import judge
from tests.sim.simulation import play
from tests.sim.trace import Trace

ATTEMPTS = 400
Step = TypeVar("Step")


def broken_rules(trace: Trace) -> frozenset[str]:
    """Return the rules that *trace* breaks."""
    return frozenset(violation.rule for violation in judge(play(trace)))


def shrink(trace: Trace, *, attempts: int = ATTEMPTS) -> Trace:
    """Return a trace of as few steps as can be found in *attempts* simulations, which breaks one of the rules that *trace* breaks."""
    rules, left = broken_rules(trace), attempts

    def fails(shorter: Trace) -> bool:
        nonlocal left
        left -= 1
        return left >= 0 and bool(broken_rules(shorter) & rules)

    shorter = _shorter(trace, fails)
    while shorter != trace:
        trace, shorter = shorter, _shorter(shorter, fails)
    return trace


def _shorter(trace: Trace, fails: Callable[[Trace], bool]) -> Trace:
    whole = trace
    trace = replace(whole, faults=_fewest(whole.faults, lambda kept: fails(replace(whole, faults=tuple(kept)))))
    fewer = trace
    trace = replace(fewer, operations=_fewest(fewer.operations, lambda kept: fails(replace(fewer, operations=tuple(kept)))))
    while trace.schedulers > 1 and fails(replace(trace, schedulers=trace.schedulers - 1)):
        trace = replace(trace, schedulers=trace.schedulers - 1)
    return trace


def _fewest(steps: Sequence[Step], fails: Callable[[Sequence[Step]], bool]) -> tuple[Step, ...]:
    kept = tuple(steps)
    size = len(kept)
    while size > 0:
        for shorter in _without(kept, size):
            if fails(shorter):
                kept = shorter
                break
        else:
            size //= 2
    return kept


def _without(steps: tuple[Step, ...], size: int) -> Iterator[tuple[Step, ...]]:
    """Yield *steps* without each run of *size* of them."""
    for start in range(0, len(steps), size):
        yield steps[:start] + steps[start + size :]
