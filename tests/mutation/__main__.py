"""All mutants: ``python -m tests.mutation [MODULE]… [--every N] [--journal FILE]``, with modules such as ``core.wheel``.

Each mutant tried is one line of the journal. A run that is interrupted goes on after it, as long as the module has not changed; what
survived is tried again when its tests have. ``--every 10`` plants each tenth mutant only. Ends with the score of each module and the
mutants that survived.
"""

import argparse
import gc
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import _hypothesis_pytestplugin
import celery.app.trace
import celery.beat
import celery.canvas
import celery.worker.consumer
import click
import croniter
import dateutil.rrule
import hypothesis
import hypothesis.stateful
import kombu.transport.redis
import pytest_timeout
import redis.asyncio
import sqlalchemy
import xdist.looponfail
import xdist.plugin

from tests.mutation.accepted import ACCEPTED
from tests.mutation.mutants import Mutant, mutants_of
from tests.mutation.reach import reached_from
from tests.mutation.trial import HUNG, SURVIVED, Trial, try_mutant

LOADED = (
    *(celery.app.trace, celery.beat, celery.canvas, celery.worker.consumer, kombu.transport.redis, redis.asyncio, sqlalchemy),
    *(click, croniter, dateutil.rrule),
    *(_hypothesis_pytestplugin, hypothesis.stateful, pytest_timeout, xdist.looponfail, xdist.plugin),
)
"""What every trial needs, loaded once."""

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "celery_tw"
FLOORS = {"core": "tests/core", "leadership": "tests/leadership"}
MOST_CPU_S = {"core": 5, "leadership": 15}
"""Who computes longer over one test, hangs; the longest takes one second, or three."""
NOT_TRIED = ("test_calendars.py",)
"""Slow, and it reads what the others have read."""
PATIENCE, GRACE_S = 5, 30.0
"""A mutant hangs when it takes five times as long as the module as it stands, and half a minute."""


def main(arguments: list[str]) -> int:
    options = _options(arguments)
    done = _read(options.journal)
    gc.freeze()  # what is loaded stays; a trial's collector need not look at it
    lines = []
    for module in options.module or _modules():
        for line in _try_all(module, done, every=options.every, journal=options.journal):
            lines.append(line)
    print(_report(lines))  # noqa: T201
    return 0


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("module", nargs="*")
    parser.add_argument("--every", type=int, default=1, metavar="N")
    parser.add_argument("--journal", type=Path, default=ROOT / "build" / "mutants.jsonl")
    return parser.parse_args(arguments)


def _modules() -> list[str]:
    paths = [path for floor in FLOORS for path in sorted((PACKAGE / floor).glob("*.py"))]
    return [f"{path.parent.name}.{path.stem}" for path in paths if path.stem != "__init__"]


def _tests_of(module: str) -> list[str]:
    """Return the tests of the module's floor that can reach it, first those that share its name, or its first word."""
    floor, _, name = module.partition(".")
    tests = sorted(path for path in (ROOT / FLOORS[floor]).glob("test_*.py") if path.name not in NOT_TRIED)
    reaching = [path for path in tests if f"celery_tw.{module}" in reached_from(path, ROOT)]
    if not reaching:
        raise SystemExit(f"no test of {FLOORS[floor]} reaches {module}")
    names = (f"test_{name}", f"test_{name.split('_')[0]}")
    own_first = sorted(reaching, key=lambda path: (*(not path.stem.startswith(each) for each in names), path.name))
    return [str(path.relative_to(ROOT)) for path in own_first]


def _read(journal: Path) -> dict[str, dict]:
    if not journal.exists():
        return {}
    return {line["key"]: line for line in map(json.loads, journal.read_text().splitlines())}


def _try_all(module: str, done: dict[str, dict], *, every: int, journal: Path) -> Iterator[dict]:
    path = PACKAGE / f"{module.replace('.', '/')}.py"
    source, tests = path.read_text(), _tests_of(module)
    of_source, of_tests = _digest([path]), _digest([ROOT / name for name in sorted(tests)])
    unchanged = _try_unchanged(module, path, tests)
    for mutant in mutants_of(source)[::every]:
        key = f"{module}:{of_source}:{mutant.place}:{mutant.what}"
        known = done.get(key)
        if known is None or (known["result"] == SURVIVED and known["tests"] != of_tests):
            done[key] = {"key": key, "tests": of_tests, **_try(module, path, mutant, tests, unchanged)}
            journal.parent.mkdir(parents=True, exist_ok=True)
            with journal.open("a") as file:
                file.write(json.dumps(done[key]) + "\n")
        yield done[key]


def _digest(files: list[Path]) -> str:
    return hashlib.blake2b(b"".join(file.read_bytes() for file in files), digest_size=8).hexdigest()


def _try_unchanged(module: str, path: Path, tests: list[str]) -> Trial:
    """Return what the tests take without any mutant; refuse to go on when they fail."""
    unchanged = try_mutant(f"celery_tw.{module}", path, None, tests, most_s=300, most_cpu_s=_most_cpu_s(module))
    if unchanged.result != SURVIVED:
        raise SystemExit(f"the tests of {module} fail without any mutant")
    return unchanged


def _try(module: str, path: Path, mutant: Mutant, tests: list[str], unchanged: Trial) -> dict:
    most_s = PATIENCE * unchanged.passed_s + GRACE_S
    result = try_mutant(f"celery_tw.{module}", path, mutant, tests, most_s=most_s, most_cpu_s=_most_cpu_s(module)).result
    text = path.read_text().splitlines()[mutant.line - 1].strip()
    if result == SURVIVED:
        print(f"survived: {module}:{mutant.line} {mutant.what}: {text}", file=sys.stderr, flush=True)  # noqa: T201
    return {"module": module, "line": mutant.line, "what": mutant.what, "text": text, "result": result}


def _most_cpu_s(module: str) -> int:
    return MOST_CPU_S[module.partition(".")[0]]


def _report(lines: list[dict]) -> str:
    modules = dict.fromkeys(line["module"] for line in lines)
    rows = [_row(module, [line for line in lines if line["module"] == module]) for module in modules]
    survivors = [line for line in lines if line["result"] == SURVIVED and not _is_accepted(line)]
    listed = [f"- `{line['module']}:{line['line']}` {line['what']}: `{line['text']}`" for line in survivors]
    head = ["| module | mutants | noticed | of these hung | change nothing | survived | score |", "| --- " * 7 + "|"]
    return "\n".join([*head, *rows, _row("all", lines), "", *listed])


def _row(name: str, lines: list[dict]) -> str:
    survived = [line for line in lines if line["result"] == SURVIVED]
    accepted = sum(map(_is_accepted, survived))
    noticed, hung = len(lines) - len(survived), sum(line["result"] == HUNG for line in lines)
    score = 100 * noticed / max(1, len(lines) - accepted)
    return f"| {name} | {len(lines)} | {noticed} | {hung} | {accepted} | {len(survived) - accepted} | {score:.1f} % |"


def _is_accepted(line: dict) -> bool:
    return (line["module"], line["what"], line["text"]) in ACCEPTED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
