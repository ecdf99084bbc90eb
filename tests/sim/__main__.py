"""The simulation from the command line: ``python -m tests.sim --seeds 1000 [--seed 7] [--shrink] [--jobs 2] [--mutant NAME] [--lanes]``.

Exit status 1 when a seed breaks a rule. A failing seed prints what is wrong and its trace, made short with ``--shrink``; the same seed on
the same commit fails the same way again.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext

from tests.sim.mutants import MUTANTS, by_name
from tests.sim.oracles import Violation, judge
from tests.sim.shrinking import shrink
from tests.sim.simulation import play
from tests.sim.trace import Trace, draw
from tests.sim.verdicts import verdicts


def main(words: Sequence[str] | None = None) -> int:
    """Play the seeds asked for, print what is wrong and a line of figures; return the exit status."""
    options = _options(words)
    seeds = range(options.seed, options.seed + options.seeds)
    mutant = by_name.get(options.mutant)
    lanes = options.lanes or (mutant.lanes if mutant else None)
    jobs = 1 if mutant else options.jobs  # a mistake is planted in this process only
    failed, messages, began_s = 0, 0, time.monotonic()
    with mutant.planted() if mutant else nullcontext():
        for seed, violations, pushed in verdicts(seeds, jobs=jobs, lanes=lanes):
            messages += pushed
            if violations:
                failed += 1
                _print_failure(draw(seed, lanes=lanes), violations, shorten=options.shrink)
    took_s = time.monotonic() - began_s
    print(f"{len(seeds)} seeds from {seeds.start}, {messages} messages, {failed} failed, {took_s:.0f} s")
    return 1 if failed else 0


def _print_failure(trace: Trace, violations: Sequence[Violation], *, shorten: bool) -> None:
    print(f"seed {trace.seed} breaks {', '.join(sorted({violation.rule for violation in violations}))}")
    if shorten:
        trace = shrink(trace)
        violations = judge(play(trace))
    for violation in violations[:5]:
        print(f"  {violation}")
    print(trace)


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description="Play seeded histories of schedulers, clients and faults.")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds to play")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--shrink", action="store_true", help="look for a short trace that fails the same way")
    parser.add_argument("--jobs", type=int, default=1, help="processes to share the work")
    parser.add_argument("--mutant", choices=[mutant.name for mutant in MUTANTS], help="plant this mistake first")
    parser.add_argument("--lanes", action="store_true", default=None, help="let there be a fair queue in each, not in some")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
