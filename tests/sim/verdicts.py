"""Verdicts: many seeds judged, in several processes. The processes begin afresh, so that what is patched in one is not in the others."""

from collections.abc import Iterator, Sequence
from multiprocessing import get_context

from tests.sim.oracles import Violation, judge
from tests.sim.simulation import play
from tests.sim.trace import draw

Verdict = tuple[int, list[Violation], int]


def verdict(seed: int) -> Verdict:
    """Play *seed* and return it with what is wrong, and how many messages reached the queue."""
    outcome = play(draw(seed))
    return seed, judge(outcome), sum(len(event.pushed) for event in outcome.events)


def verdicts(seeds: Sequence[int], *, jobs: int) -> Iterator[Verdict]:
    """Yield the verdict on each of *seeds*, in their order, reached in *jobs* processes."""
    if jobs == 1:
        yield from map(verdict, seeds)
        return
    with get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(verdict, seeds, chunksize=10)
