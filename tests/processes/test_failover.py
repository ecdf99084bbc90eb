"""A leader that dies, goes, hangs or comes back: no slot is missed, none is fired twice."""

import pytest

from tests.processes.stage import Stage, now_ms, schedule_of, spread

pytestmark = [pytest.mark.processes, pytest.mark.timeout(90)]

GRIDS = spread(50)
NAMES = [grid.entry for grid in GRIDS]
LATE_IS_LIVE_S = 30.0


def test_a_stand_by_takes_over_from_a_killed_leader(stage: Stage) -> None:
    beats = stage.start_beats(2, schedule=schedule_of(GRIDS, tolerance=LATE_IS_LIVE_S))
    from_ms = stage.wait_for_runs(NAMES)
    leader = stage.wait_for_leader(*beats)

    killed_ms = now_ms()
    leader.die()
    until_ms = stage.watch(GRIDS, for_ms=8000)

    assert stage.leader(*beats) not in (None, leader)
    assert stage.check(GRIDS, from_ms=from_ms, until_ms=until_ms).right, stage.check(GRIDS, from_ms=from_ms, until_ms=until_ms)
    print("gap", stage.ledger.longest_gap_ms(), killed_ms)
