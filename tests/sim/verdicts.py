"""Verdicts: many seeds judged, in several processes. The processes begin afresh, so that what is patched in one is not in the others."""

from collections.abc import Iterator, Sequence
from functools import partial
from multiprocessing import get_context

from tests.sim.oracles import Violation, judge
from tests.sim.simulation import play
from tests.sim.trace import draw

Verdict = tuple[int, list[Violation], int]


def verdict(seed: int, lanes: bool | None = None) -> Verdict:
    """Play *seed* and return it with what is wrong, and how many messages reached the queues."""
    outcome = play(draw(seed, lanes=lanes))
    return seed, judge(outcome), sum(len(event.pushed) for event in outcome.events)


def verdicts(seeds: Sequence[int], *, jobs: int, lanes: bool | None = None) -> Iterator[Verdict]:
    """Yield the verdict on each of *seeds*, in their order, reached in *jobs* processes; *lanes* as in `draw`."""
    judged = partial(verdict, lanes=lanes)
    if jobs == 1:
        yield from map(judged, seeds)
        return
    with get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(judged, seeds, chunksize=10)
