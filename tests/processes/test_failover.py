"""A leader that dies, goes, hangs or comes back: no slot is missed, none is fired twice.

The bounds on time are wide, because a busy machine is slow; how fast a stand-by really is stands in ``docs/benchmarks.md``. Each test puts
the longest time in which nothing ran into its report (``--junit-xml``).
"""

from collections.abc import Iterator

import pytest

from tests.processes.nodes import Beat
from tests.processes.stage import Stage, schedule_of, spread

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

GRIDS = spread(50)
NAMES = [grid.entry for grid in GRIDS]
SCHEDULE = schedule_of(GRIDS, tolerance=30.0)
"""A slot that waits for the next leader counts as late, not as missed, however slow this machine is."""

LONGEST_SILENCE_MS = 15_000


@pytest.fixture(autouse=True)
def reported_silence(stage: Stage, request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    request.node.user_properties.append(("longest_silence_ms", stage.ledger.longest_gap_ms()))


def assert_every_slot_ran_once(stage: Stage, *, from_ms: int, until_ms: int) -> None:
    found = stage.check(GRIDS, from_ms=from_ms, until_ms=until_ms)
    assert found.violations == ()
    assert stage.ledger.longest_gap_ms() < LONGEST_SILENCE_MS


def follower(beats: list[Beat], leader: Beat) -> Beat:
    return next(beat for beat in beats if beat is not leader)


def test_a_stand_by_takes_over_from_a_killed_leader(stage: Stage) -> None:
    beats = stage.start_beats(2, schedule=SCHEDULE)
    from_ms = stage.wait_for_runs(NAMES)

    leader = stage.wait_for_leader(*beats)
    leader.die()

    until_ms = stage.watch(GRIDS, for_ms=5000)
    assert stage.leader(*beats) is follower(beats, leader)
    assert_every_slot_ran_once(stage, from_ms=from_ms, until_ms=until_ms)


def test_a_leader_that_is_asked_to_end_hands_over(stage: Stage) -> None:
    beats = stage.start_beats(2, schedule=SCHEDULE)
    from_ms = stage.wait_for_runs(NAMES)

    leader = stage.wait_for_leader(*beats)
    assert leader.end() == 0

    until_ms = stage.watch(GRIDS, for_ms=1500)
    assert stage.leader(*beats) is follower(beats, leader)
    assert_every_slot_ran_once(stage, from_ms=from_ms, until_ms=until_ms)
    assert "resigned" in leader.logs()


def test_a_leader_that_stood_still_past_its_lease_is_harmless_when_it_goes_on(stage: Stage) -> None:
    beats = stage.start_beats(2, schedule=SCHEDULE)
    from_ms = stage.wait_for_runs(NAMES)

    old = stage.wait_for_leader(*beats)
    old.pause()
    new = stage.wait_for_leader(follower(beats, old))
    old.go_on()
    old.wait_for_log("no longer leading", timeout=15)

    until_ms = stage.watch(GRIDS, for_ms=2000)
    assert stage.leader(*beats) is new
    assert old.container.status == "running"
    assert_every_slot_ran_once(stage, from_ms=from_ms, until_ms=until_ms)


def test_three_beats_survive_one_kill_after_another(stage: Stage) -> None:
    beats = stage.start_beats(3, schedule=SCHEDULE)
    from_ms = stage.wait_for_runs(NAMES)

    first = stage.wait_for_leader(*beats)
    first.die()
    second = stage.wait_for_leader(*(beat for beat in beats if beat is not first))
    first.restart()
    second.die()
    third = stage.wait_for_leader(*(beat for beat in beats if beat is not second))

    until_ms = stage.watch(GRIDS, for_ms=2000)
    assert third.container.status == "running"
    assert_every_slot_ran_once(stage, from_ms=from_ms, until_ms=until_ms)
