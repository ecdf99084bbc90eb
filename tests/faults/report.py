"""Report: ``docs/reliability-report.md`` from the journal, with nothing in it that is not in the journal."""

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import median, quantiles

from tests.faults.matrix import COVERED, MATRIX, Scenario
from tests.faults.outcome import ROOT, Outcome, Played

REPORT = ROOT / "docs" / "reliability-report.md"
PEER = "peer-"

HEAD = """# Reliability report

Real schedulers, servers and brokers were hurt, and what came of each slot was judged by the [public checker](howto/fault-tests.md). Made by

```console
$ python -m tests.faults --report
```

from the outcomes in `build/faults.jsonl`; `python -m tests.faults [--only NAME] [--repeat N] [--resume]` plays the
[table](../tests/faults/matrix.py) and adds to them. Unless a row says otherwise, 50 entries fire every second, 20 ms apart, with the
default lease of 3 s.

*Missed*: slots that were neither fired nor recorded as skipped. *Doubled*: slots that took effect twice, or were sent under another id.
*Copies*: the same send again, with the same ids. *Late*: slots that came more than 4 s (lease and a second) after their time, or after the
end of the fault. *Take-over*: from the fault to the next leader's first claim.
"""

PEERS_HEAD = """
## celery beat and RedBeat under the same faults

Judged by times alone, because their messages name no slot: an entry's nominal times begin with its first message, and a message within 5 s
serves one. *Repeats* came within half a period of the message before. Their intervals begin anew with each message, so they also drift.
*Silence* is the longest time in which nothing came at all, around each fault. celery beat is one process, started again at once when
killed; RedBeat is two, with a lock of 5 s in place of its default of 25 minutes.
"""


def report(outcomes: Sequence[Outcome]) -> str:
    """Return the text of the report."""
    by_name: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in _standing(outcomes):
        if not outcome.skipped:
            by_name[outcome.scenario].append(outcome)
    ours = [scenario for scenario in MATRIX if not scenario.name.startswith(PEER)]
    theirs = [scenario for scenario in MATRIX if scenario.name.startswith(PEER)]
    parts = (
        HEAD,
        _summary(by_name, ours),
        "\n## The matrix\n",
        _table(by_name, ours),
        PEERS_HEAD,
        _peers(by_name, theirs),
        "\n## Tested elsewhere\n",
        _elsewhere(),
        _notes(by_name, ours),
        _open(by_name),
        "\n## What each scenario does\n",
        _promises(),
    )
    return "\n".join(part.strip("\n") + "\n" for part in parts if part)


def _standing(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Leave out what could not be played to its end and was played again with the same seed; a verdict always stands."""
    last = {(outcome.scenario, outcome.seed): number for number, outcome in enumerate(outcomes) if not outcome.error}
    return [
        outcome for number, outcome in enumerate(outcomes) if not outcome.error or last.get((outcome.scenario, outcome.seed), -1) < number
    ]


def _summary(by_name: dict[str, list[Outcome]], ours: Iterable[Scenario]) -> str:
    outcomes = [outcome for scenario in ours for outcome in by_name[scenario.name]]
    plays = [outcome.played for outcome in outcomes if outcome.played]
    commits = ", ".join(dict.fromkeys(f"`{outcome.commit}`" for outcome in outcomes))
    faults, slots = sum(play.faults for play in plays), sum(play.expected for play in plays)
    missed, doubled = sum(play.missed for play in plays), sum(play.doubled for play in plays)
    kinds = sum(bool(by_name[scenario.name]) for scenario in ours)
    hours = sum(outcome.seconds for outcome in outcomes) / 3600
    return (
        f"\n**{faults:,} faults in {kinds} scenarios, {hours:.1f} hours; {slots:,} slots: {missed} missed, {doubled} doubled.** "
        f"Take-over {_shares(play_ms(plays))}. Commits: {commits}.{_load(outcomes)}\n"
    )


def _load(outcomes: Sequence[Outcome]) -> str:
    """Return how busy the machine was, which is what late slots and long take-overs have to be read with."""
    loads = [outcome.load for outcome in outcomes if outcome.load]
    if not loads:
        return ""
    cores = os.cpu_count()
    return (
        f" The machine has {cores} cores and was shared: its load was {min(loads):.0f} to {max(loads):.0f}, {median(loads):.0f} as a rule."
    )


def play_ms(plays: Iterable[Played]) -> list[int]:
    """Return all take-over times."""
    return [took_ms for play in plays for took_ms in play.takeovers_ms]


def _table(by_name: dict[str, list[Outcome]], scenarios: Iterable[Scenario]) -> str:
    head = "row|scenario|oracles|plays|seeds|faults|slots|missed|doubled|copies|late|latest|take-over|verdict"
    rows = [_row(scenario, by_name[scenario.name]) for scenario in scenarios]
    return _markdown(head.split("|"), rows)


def _row(scenario: Scenario, outcomes: Sequence[Outcome]) -> list[str]:
    plays = [outcome.played for outcome in outcomes if outcome.played]
    first = [scenario.row, f"`{scenario.name}`", scenario.oracles, str(len(outcomes))]
    if not plays:
        return [*first, *["–"] * 9, "not played" if not outcomes else "not to its end"]
    total = Played.sum(plays)
    wrong = sum(not outcome.right for outcome in outcomes)
    numbers = (total.faults, total.expected, total.missed, total.doubled, total.copies, total.late)
    seeds = sorted({outcome.seed for outcome in outcomes})
    latest = f"{total.worst_late_ms / 1000:.1f} s" if total.expected else "–"
    verdict = "right" if not wrong else f"wrong in {wrong}"
    return [*first, _range(seeds), *(f"{number:,}" for number in numbers), latest, _shares(total.takeovers_ms), verdict]


def _peers(by_name: dict[str, list[Outcome]], scenarios: Iterable[Scenario]) -> str:
    rows = []
    for scenario in scenarios:
        plays = [outcome.played for outcome in by_name[scenario.name] if outcome.played]
        if plays:
            total = Played.sum(plays)
            share = 100 * total.missed / max(1, total.expected)
            numbers = (f"{total.faults}", f"{total.expected:,}", f"{total.missed:,} ({share:.1f} %)", f"{total.doubled:,}")
            rows.append([f"`{scenario.name}`", *numbers, _shares(total.takeovers_ms)])
    return _markdown(["scenario", "faults", "nominal times", "missed", "repeats", "silence"], rows)


def _elsewhere() -> str:
    return _markdown(["row", "fault", "tests"], [[row, fault, f"`{where}`".replace(", ", "`, `")] for row, fault, where in COVERED])


def _notes(by_name: dict[str, list[Outcome]], scenarios: Iterable[Scenario]) -> str:
    lines = []
    for scenario in scenarios:
        notes = dict.fromkeys(outcome.played.note for outcome in by_name[scenario.name] if outcome.played and outcome.played.note)
        lines += [f"- `{scenario.name}`: {note}" for note in notes]
    return "\n## Remarks\n\n" + "\n".join(lines) + "\n" if lines else ""


def _open(by_name: dict[str, list[Outcome]]) -> str:
    """Return what went wrong, and what could not be played to its end."""
    wrong = [
        outcome for outcomes in by_name.values() for outcome in outcomes if not outcome.right and not outcome.scenario.startswith(PEER)
    ]
    if not wrong:
        return ""
    lines = [f"- `{each.scenario}`, seed {each.seed}, commit `{each.commit}`: {_why(each)}" for each in wrong]
    return "\n## What went wrong\n\n" + "\n".join(lines) + "\n"


def _why(outcome: Outcome) -> str:
    return "; ".join(outcome.played.violations) if outcome.played else outcome.error.partition("\n")[0]


def _promises() -> str:
    return _markdown(["row", "scenario", "what is done"], [[each.row, f"`{each.name}`", each.promise] for each in MATRIX])


def _shares(times_ms: Sequence[int]) -> str:
    """Return the median, the 99th percentile and the longest of some times, in seconds."""
    if not times_ms:
        return "–"
    if len(times_ms) == 1:
        return f"{times_ms[0] / 1000:.1f} s"
    hundredths = quantiles(times_ms, n=100, method="inclusive")
    p50, p99, longest = hundredths[49] / 1000, hundredths[98] / 1000, max(times_ms) / 1000
    return f"p50 {p50:.1f} s, p99 {p99:.1f} s, max {longest:.1f} s (n = {len(times_ms)})"


def _range(seeds: Sequence[int]) -> str:
    return str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]}–{seeds[-1]}"


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
