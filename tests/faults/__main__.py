"""The fault matrix: ``python -m tests.faults [--only NAME …] [--times N] [--repeat N] [--seed N] [--resume] [--report] [--list]``.

Each scenario's outcome is a line of ``build/faults.jsonl``. ``--resume`` leaves out what has been played with the same code, ``--report``
writes ``docs/reliability-report.md`` from all lines there are. Exit code 1 when something was wrong, or could not be played to its end.
"""

import argparse
import os
import random
import sys
import time
import traceback

from tests.faults.matrix import MATRIX, Scenario, named
from tests.faults.outcome import Journal, Outcome, code, commit
from tests.faults.report import REPORT, report

FIRST_SEED = 1


def main(arguments: list[str]) -> int:
    options = _options(arguments)
    journal = Journal()
    if options.list:
        sys.stdout.writelines(f"{each.row:4} {each.name:30} {each.oracles:45} {each.promise}\n" for each in MATRIX)
        return 0
    right = True
    if not (options.report and not options.only and not options.all):
        right = _play_all(options, journal)
    if options.report:
        REPORT.write_text(report(list(journal.read())))
    return 0 if right else 1


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these scenarios, or all whose names begin so")
    parser.add_argument("--all", action="store_true", help="with --report: play everything before")
    parser.add_argument("--times", type=int, help="faults in each play (default: the scenario's own)")
    parser.add_argument("--repeat", type=int, default=1, help="plays of each scenario, each with another seed")
    parser.add_argument("--seed", type=int, default=FIRST_SEED)
    parser.add_argument("--resume", action="store_true", help="leave out what has been played with this code and seed, to its end")
    parser.add_argument("--report", action="store_true", help="write the report; alone, without playing anything")
    parser.add_argument("--list", action="store_true", help="show the table")
    return parser.parse_args(arguments)


def _play_all(options: argparse.Namespace, journal: Journal) -> bool:
    judged, right = code(), True
    done = {(each.scenario, each.seed) for each in journal.read() if each.code == judged and not each.error} if options.resume else set()
    for scenario in _chosen(options.only):
        for seed in range(options.seed, options.seed + options.repeat):
            if (scenario.name, seed) not in done:
                outcome = play(scenario, seed=seed, times=options.times or scenario.times, judged=judged)
                journal.append(outcome)
                _tell(outcome)
                right = right and (outcome.right or bool(outcome.skipped) or scenario.name.startswith("peer-"))
    return right


def _chosen(names: list[str] | None) -> list[Scenario]:
    if names is None:
        return list(MATRIX)
    chosen = [scenario for scenario in MATRIX if any(scenario.name.startswith(name) for name in names)]
    return chosen or [named(name) for name in names]


def play(scenario: Scenario, *, seed: int, times: int, judged: str) -> Outcome:
    """Play one scenario; return what came of it, whatever that is."""
    started_s, facts = time.monotonic(), {"scenario": scenario.name, "seed": seed, "commit": commit(), "code": judged}
    why_not = scenario.why_not()
    if why_not is not None:
        return Outcome(**facts, seconds=0.0, skipped=why_not)
    try:
        played, error = scenario.play(random.Random(seed), times), ""
    except Exception as failure:
        traceback.print_exc()
        played, error = None, f"{type(failure).__name__}: {failure}"
    seconds, load = round(time.monotonic() - started_s, 1), round(os.getloadavg()[0], 1)
    return Outcome(**facts, seconds=seconds, load=load, played=played, error=error)


def _tell(outcome: Outcome) -> None:
    verdict = "right" if outcome.right else f"skipped: {outcome.skipped}" if outcome.skipped else outcome.error or "WRONG"
    sys.stdout.write(f"{outcome.scenario:30} {outcome.seconds:7.1f} s  {verdict}\n")
    for violation in outcome.played.violations if outcome.played else ():
        sys.stdout.write(f"    {violation}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
