"""Redis dies, comes back, or is not there yet: no slot is lost silently, and beat waits instead of ending."""

import pytest

from celery_tw.embedded import EmbeddedServer
from celery_tw.testing.slots import Grid
from tests.processes.stage import Stage, now_ms, schedule_of
from tests.waiting import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

OUTAGE_MS = 4000


def outage(server: EmbeddedServer) -> None:
    """Kill the server, and start it again on its data after a time that is longer than some entries' tolerance."""
    server.kill()
    killed_ms = now_ms()
    wait_until(lambda: now_ms() > killed_ms + OUTAGE_MS, 2 * OUTAGE_MS / 1000)
    server.restart()


def test_each_slot_of_an_outage_runs_or_is_on_record_as_its_policy_says(stage: Stage, server: EmbeddedServer) -> None:
    patient, latest, skip, catch_up = grids = [Grid(name, 500) for name in ("patient", "latest", "skip", "catch_up")]
    schedule = {
        **schedule_of([patient], tolerance=60.0),
        **schedule_of([latest], tolerance=1.0, misfire="latest"),
        **schedule_of([skip], tolerance=1.0, misfire="skip"),
        **schedule_of([catch_up], tolerance=1.0, misfire="catch_up"),
    }
    beats = stage.start_beats(2, schedule=schedule)
    from_ms = stage.wait_for_runs(grid.entry for grid in grids)
    stage.stop_worker()  # what a stock worker does with messages in hand when Redis dies is not in question here

    outage(server)

    stage.wait_for_leader(*beats)
    stage.start_worker()
    stage.watch(grids, for_ms=500)
    wait_until(lambda: not stage.timewheel.status().backlogs, 20, message="the backlogs to be drained")
    until_ms = stage.watch(grids, for_ms=500)
    skipped = stage.skipped("patient", "latest", "skip", "catch_up")
    assert {each.entry for each in skipped} == {"latest", "skip"}
    found = stage.check(grids, from_ms=from_ms, until_ms=until_ms, skipped=skipped)
    assert found.violations == ()
    assert [beat.container.status for beat in beats] == ["running", "running"]


def test_entries_stored_before_an_outage_are_there_after_it(stage: Stage, server: EmbeddedServer) -> None:
    stage.start_beats(1)
    for number in range(200):
        stage.timewheel.schedule(f"hourly-{number}", stage.app.signature("shop.record"), 3600.0)
    stage.timewheel.pause("hourly-7", note="why")

    server.kill()
    server.restart()

    wait_until(lambda: stage.leader(*stage.beats), 20, message="the beat to lead again")
    status = stage.timewheel.status()
    assert (status.names, status.waiting, status.quarantined) == (200, 199, {})
    assert stage.timewheel.entry("hourly-7").pause_note == "why"


def test_beat_waits_for_a_redis_that_is_not_there_yet_and_says_so(stage: Stage, server: EmbeddedServer) -> None:
    tick = Grid("tick", 500)
    stage.stop_worker()
    server.kill()

    beat = stage.start_beat(schedule=schedule_of([tick]))
    beat.ready()
    beat.wait_for_log("waits for Redis", timeout=15)
    assert "does not answer yet, waiting for it" in beat.logs()
    assert beat.container.status == "running"

    server.restart()
    stage.start_worker()
    from_ms = stage.wait_for_runs(["tick"])
    until_ms = stage.watch([tick], for_ms=1000)
    assert stage.check([tick], from_ms=from_ms, until_ms=until_ms).violations == ()
    assert "Redis is back" in beat.logs()


def test_a_beat_that_waits_for_redis_ends_when_it_is_asked_to(stage: Stage, server: EmbeddedServer) -> None:
    (beat,) = stage.start_beats(1)
    stage.stop_worker()
    server.kill()
    beat.wait_for_log("waits for Redis", timeout=15)

    assert beat.end() == 0
    assert "Traceback" not in beat.logs()
