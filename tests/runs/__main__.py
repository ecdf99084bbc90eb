"""Random kills: ``python -m tests.runs --kills N [--broker redis|rabbitmq] [--journal FILE] [--seed S]``.

Workers and single processes of their pools are killed at random while chains, chords, retries, locked and long tasks are under way. Each
round of some kills has servers of its own, is judged by its ledger, and is one line of the journal: a command that is interrupted, or asked
for more kills, goes on after the last one. The exit code is 1 when there was a violation. The folder of a round with a violation, or with a
message that went astray, or with a process that was at one body for very long and wrote down what it did, is kept.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.runs.fleet import play

ROUND = 20
ROOT = Path(__file__).parents[2]


def main(arguments: list[str]) -> int:
    options = _options(arguments)
    rounds = [line for line in _journal(options.journal) if line["broker"] == options.broker]
    while (kills := sum(line["kills"] for line in rounds)) < options.kills:
        seed = options.seed + len(rounds)
        rounds.append(_play(options.broker, min(ROUND, options.kills - kills), seed, options.journal))
        print(_line(rounds[-1]), flush=True)  # noqa: T201
    print(_report(options.broker, rounds))  # noqa: T201
    return 1 if any(line["violations"] for line in rounds) else 0


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.runs", description=__doc__)
    parser.add_argument("--kills", type=int, default=100, metavar="N")
    parser.add_argument("--broker", choices=["redis", "rabbitmq"], default="redis")
    parser.add_argument("--journal", type=Path, default=ROOT / "build" / "runs.jsonl")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args(arguments)


def _journal(journal: Path) -> Iterator[dict[str, Any]]:
    if journal.exists():
        yield from map(json.loads, journal.read_text().splitlines())


def _play(broker: str, kills: int, seed: int, journal: Path) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="tw-runs-"))
    verdict = play(folder, broker=broker, kills=kills, seed=seed)
    line = {"broker": broker, "seed": seed, "kills": kills, **asdict(verdict)}
    if verdict.violations or verdict.never_begun or any(stacks.stat().st_size for stacks in folder.glob("stacks-*.txt")):
        line["folder"] = str(folder)
    else:
        shutil.rmtree(folder)
    journal.parent.mkdir(parents=True, exist_ok=True)
    with journal.open("a") as file:
        file.write(json.dumps(line) + "\n")
    return line


def _line(line: dict[str, Any]) -> str:
    told = f"seed {line['seed']}: {line['kills']} kills, {line['sent']} sends, {line['bodies']} bodies, {line['again']} begun again"
    wrong = [*line["violations"], *(f"never begun: {each}" for each in line["never_begun"])]
    return "\n  ".join([told, *wrong, *([f"kept in {line['folder']}"] if "folder" in line else [])])


def _report(broker: str, rounds: list[dict[str, Any]]) -> str:
    def total(what: str) -> int:
        return sum(line[what] if isinstance(line[what], int) else len(line[what]) for line in rounds)

    done = f"{broker}: {total('kills')} kills, {total('sent')} sends, {total('bodies')} bodies, {total('again')} of them begun again"
    return f"{done}; {total('violations')} violations; {total('never_begun')} never begun"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
