"""The checker itself: each kind of fault, planted, is found, and nothing else is."""

from dataclasses import replace

import pytest

from tests.processes.slots import Findings, Grid, Run, Skipped, check

GRIDS = (Grid("tick", 1000, 250), Grid("tock", 500))
FROM_MS, UNTIL_MS = 10_000, 15_000


def history() -> list[Run]:
    """Return a history without a fault, which reaches beyond the window on both sides."""
    return [Run(grid.entry, slot_ms, slot_ms + 5) for grid in GRIDS for slot_ms in grid.between(FROM_MS - 2000, UNTIL_MS + 2000)]


def checked(runs: list[Run], *skipped: Skipped) -> Findings:
    return check(GRIDS, runs, from_ms=FROM_MS, until_ms=UNTIL_MS, skipped=skipped)


def test_a_history_without_a_fault_is_right() -> None:
    found = checked(history())

    assert found == Findings(expected=5 + 10)
    assert found.right


def test_a_slot_is_between_when_it_is_after_the_first_and_not_after_the_second_moment() -> None:
    assert list(Grid("tick", 1000, 250).between(1250, 3250)) == [2250, 3250]
    assert list(Grid("tick", 1000, 5250).between(1249, 1251)) == [1250]


def test_a_missing_slot_is_found() -> None:
    found = checked([run for run in history() if (run.entry, run.slot_ms) != ("tick", 12_250)])

    assert found == Findings(expected=15, missing=[("tick", 12_250)])


def test_an_entry_that_never_ran_is_missing_whole() -> None:
    found = checked([run for run in history() if run.entry == "tick"])

    assert len(found.missing) == 10


@pytest.mark.parametrize("slot_ms", [12_250, 9_250])
def test_a_doubled_slot_is_found_inside_and_outside_the_window(slot_ms: int) -> None:
    found = checked([*history(), Run("tick", slot_ms, slot_ms + 4000)])

    assert found == Findings(expected=15, doubled=[("tick", slot_ms)])


def test_a_run_before_its_slot_is_found() -> None:
    runs = [replace(run, at_ms=run.at_ms - 6) if run.slot_ms == 12_250 else run for run in history()]

    assert checked(runs) == Findings(expected=15, early=[("tick", 12_250)])


@pytest.mark.parametrize("run", [Run("tick", 12_251, 13_000), Run("gone", 12_250, 13_000), Run("tick", None, 13_000)])
def test_a_run_for_no_slot_that_there_is_is_found(run: Run) -> None:
    found = checked([*history(), run])

    assert found == Findings(expected=15, unknown=[(run.entry, run.slot_ms)])


def test_a_slot_skipped_on_record_is_not_missing() -> None:
    runs = [run for run in history() if run.slot_ms not in (11_250, 12_250)]

    assert checked(runs, Skipped("tick", 11_250, 12_250)).right
    assert checked(runs, Skipped("tock", 11_250, 12_250)).missing == [("tick", 11_250), ("tick", 12_250)]


def test_a_slot_that_is_on_record_as_skipped_and_ran_is_found() -> None:
    assert checked(history(), Skipped("tick", 11_250, 11_250)).contradicted == [("tick", 11_250)]
