"""Each run of the tests takes a few rows of the fault matrix; the long run takes all that are ours, each with a few faults."""

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from celery_tw.embedded import EmbeddedServer
from tests.faults.matrix import COVERED, MATRIX, Scenario
from tests.faults.outcome import Journal, Outcome, Played
from tests.faults.report import report
from tests.requirements import require

ROOT = Path(__file__).parents[2]
OURS = [scenario for scenario in MATRIX if not scenario.name.startswith("peer-")]
FEW = 2


def _param(scenario: Scenario) -> object:
    marks = () if scenario.quick else (pytest.mark.long,)
    return pytest.param(scenario, id=scenario.name, marks=marks)


@pytest.mark.processes
@pytest.mark.timeout(900)
@pytest.mark.parametrize("scenario", [_param(scenario) for scenario in OURS])
def test_a_fault_costs_no_slot(scenario: Scenario, redis_server: EmbeddedServer) -> None:
    if scenario.name.endswith("rabbitmq"):
        require("rabbitmq", missing=scenario.why_not())
    elif scenario.why_not() is not None:
        pytest.skip(f"needs a compiler: {scenario.why_not()}")

    played = scenario.play(Random(1), min(scenario.times, FEW))

    assert played.violations == ()
    assert played.faults > 0


# The table and its report


def test_scenarios_have_names_of_their_own_and_say_what_they_do() -> None:
    assert len({scenario.name for scenario in MATRIX}) == len(MATRIX)
    assert all(scenario.promise.endswith(".") for scenario in MATRIX)


def test_what_is_said_to_be_tested_elsewhere_is_there() -> None:
    for _, _, places in COVERED:
        for place in places.split(", "):
            assert (ROOT / place).exists(), place


def outcome(name: str, **fields: object) -> Outcome:
    facts = {"seed": 1, "commit": "c0ffee", "code": "1", "seconds": 36.0, "played": Played(faults=2, expected=100)}
    return Outcome(scenario=name, **{**facts, **fields})  # type: ignore[arg-type]


def test_a_journal_gives_back_what_was_put_in(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "build" / "faults.jsonl")
    played = Played(faults=1, expected=9, takeovers_ms=(3000, 4000), violations=("missed: tick",))
    outcomes = [outcome("random-kills", played=played), outcome("readonly", played=None, error="AssertionError: no")]
    for each in outcomes:
        journal.append(each)

    assert list(journal.read()) == outcomes


def test_the_report_adds_up_what_was_seen_and_says_what_went_wrong() -> None:
    good = Played(faults=3, expected=200, copies=4, late=1, worst_late_ms=3400, takeovers_ms=(3000, 3200, 3400))
    bad = replace(good, missed=2, violations=("missed: tick at 5",))
    text = report([outcome("random-kills", played=good), outcome("random-kills", seed=2, played=bad)])

    assert "**6 faults in 1 scenarios" in text
    assert "400 slots: 2 missed, 0 doubled" in text
    assert "| 2 | 1–2 | 6 | 400 | 2 | 0 | 8 | 2 | 3.4 s | p50 3.2 s, p99 3.4 s, max 3.4 s (n = 6) | wrong in 1 |" in text
    assert "- `random-kills`, seed 2, commit `c0ffee`: missed: tick at 5" in text


def test_what_was_played_again_to_its_end_counts_once_and_a_verdict_always() -> None:
    broken = outcome("readonly", played=None, error="AssertionError: waited in vain")
    wrong = outcome("readonly", played=Played(faults=1, expected=9, missed=1, violations=("missed: tick at 5",)))

    assert "What went wrong" not in report([broken, outcome("readonly")])
    assert "What went wrong" in report([outcome("readonly"), broken])
    assert "missed: tick at 5" in report([wrong, outcome("readonly")])


def test_what_could_not_be_played_to_its_end_is_no_success() -> None:
    text = report([outcome("readonly", played=None, error="AssertionError: waited in vain\nmore")])

    assert "- `readonly`, seed 1, commit `c0ffee`: AssertionError: waited in vain\n" in text
    assert "| not to its end |" in text
