"""A deployment: new processes with new settings come while old ones still run, and a project goes to the time wheel and back."""

import pytest

from celery_tw.errors import UnknownEntry
from tests.processes.slots import Findings, Grid, Skipped
from tests.processes.stage import Stage, now_ms, schedule_of
from tests.waiting import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

STEADY, GOING, CHANGING, PAUSED = Grid("steady", 500), Grid("going", 500), Grid("changing", 500), Grid("paused", 500)
CHANGED, COMING = Grid("changing", 250, 10), Grid("coming", 500)
BEFORE = schedule_of((STEADY, GOING, CHANGING, PAUSED), tolerance=30.0)
AFTER = schedule_of((STEADY, CHANGED, COMING, PAUSED), tolerance=30.0)


def test_a_rolling_restart_brings_the_new_schedule_and_an_old_process_does_not_bring_the_old_one_back(stage: Stage) -> None:
    old = stage.start_beats(2, schedule=BEFORE)
    from_ms = stage.wait_for_runs(("steady", "going", "changing", "paused"))
    stage.timewheel.pause("paused", note="the supplier is on strike")
    paused_ms = now_ms()

    new = stage.start_beats_beside(1, schedule=AFTER)
    stage.wait_for_leader(*old).end()
    stage.wait_for_leader(*old, *new)
    until_new_leads(stage, old, new)

    changed_ms = stage.wait_for_runs(("coming", "changing", "steady"))
    until_ms = stage.watch((STEADY, COMING, CHANGED), for_ms=1500)
    assert steady_findings(stage, from_ms=from_ms, until_ms=until_ms).right
    assert [slot for slot in stage.ledger.slots("going") if slot > changed_ms] == []
    assert [slot for slot in stage.ledger.slots("paused") if slot > paused_ms] == []
    entry = stage.timewheel.entry("paused")
    assert (entry.paused, entry.pause_note) == (True, "the supplier is on strike")
    with pytest.raises(UnknownEntry):
        stage.timewheel.entry("going")
