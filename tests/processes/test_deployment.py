"""A deployment: new processes with new settings come while old ones still run, and a project goes to the time wheel and back."""

import pytest

from celery_tw.errors import UnknownEntry
from celery_tw.testing.slots import Grid
from tests.processes.stage import Stage, now_ms, schedule_of
from tests.waiting import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

STEADY, GOING, CHANGING, PAUSED = (Grid(name, 500) for name in ("steady", "going", "changing", "paused"))
CHANGED, COMING = Grid("changing", 250, 10), Grid("coming", 500)
BEFORE = schedule_of((STEADY, GOING, CHANGING, PAUSED), tolerance=30.0)
AFTER = schedule_of((STEADY, CHANGED, COMING, PAUSED), tolerance=30.0)


def test_a_rolling_restart_brings_the_new_schedule_and_an_old_process_does_not_bring_the_old_one_back(stage: Stage) -> None:
    (first,) = stage.start_beats(1, schedule=BEFORE)
    (second,) = stage.start_beats(1, schedule=BEFORE)
    from_ms = stage.wait_for_runs(("steady", "going", "changing", "paused"))
    stage.timewheel.pause("paused", note="the supplier is on strike")
    paused_ms = now_ms()

    second.pause()
    (third,) = stage.start_beats(1, schedule=AFTER)
    first.end()
    stage.wait_for_leader(third)
    changed_ms = stage.wait_for_runs(["coming"])
    second.go_on()
    third.die()
    stage.wait_for_leader(second)

    until_ms = stage.watch((STEADY, COMING, CHANGED), for_ms=1500)
    assert stage.check([STEADY], from_ms=from_ms, until_ms=until_ms).violations == ()
    assert stage.check([COMING, CHANGED], from_ms=changed_ms, until_ms=until_ms, since_ms=changed_ms).violations == ()
    assert [slot_ms for slot_ms in stage.ledger.slots("going") if slot_ms > changed_ms] == []
    assert [slot_ms for slot_ms in stage.ledger.slots("paused") if slot_ms > paused_ms] == []
    assert stage.timewheel.entry("paused").pause_note == "the supplier is on strike"
    with pytest.raises(UnknownEntry):
        stage.timewheel.entry("going")


def test_a_paused_entry_stays_paused_until_it_is_resumed_and_the_time_between_is_on_record(stage: Stage) -> None:
    (before,) = stage.start_beats(1, schedule=BEFORE)
    from_ms = stage.wait_for_runs(["paused"])
    stage.timewheel.pause("paused")
    paused_ms = now_ms()

    before.end()
    stage.start_beats(1, schedule=AFTER)
    stage.wait_for_runs(["coming"])
    stage.timewheel.resume("paused")

    until_ms = stage.watch([PAUSED], for_ms=1000)
    skipped = stage.skipped("paused")
    assert any((each.slot_ms or 0) > paused_ms - 500 for each in skipped)
    assert stage.check([PAUSED], from_ms=from_ms, until_ms=until_ms, skipped=skipped).violations == ()


STOCK = "celery.beat.PersistentScheduler"
ANY_BEAT = {
    "plain": {"task": "shop.record", "schedule": 1.0, "args": ["plain"]},
    "every": {"task": "shop.record", "schedule": {"every": 1.0}, "args": ["every"], "options": {"tw": {"tolerance": 30}}},
    "cron": {"task": "shop.record", "schedule": {"cron": "* * * * * *", "tz": "Europe/Berlin"}, "args": ["cron"]},
    "nightly": {"task": "shop.record", "schedule": {"crontab": {"hour": 3, "minute": 7}}, "args": ["nightly"]},
}


def test_a_project_goes_to_the_time_wheel_and_back_with_the_same_settings(stage: Stage) -> None:
    def ran_after(since_ms: int) -> dict[str, int]:
        """Return how often each entry ran since, by the argument in its settings: no header is asked, as stock beat may set none."""
        counts: dict[str, int] = {}
        for line in stage.ledger.lines():
            counts[line.value] = counts.get(line.value, 0) + (line.at_ms > since_ms)
        return counts

    for scheduler in (STOCK, "timewheel", STOCK):
        beat = stage.start_beat(scheduler=scheduler, schedule=ANY_BEAT)
        beat.ready()
        since_ms = now_ms()
        wait_until(lambda since_ms=since_ms: all(ran_after(since_ms).get(entry, 0) >= 2 for entry in ("plain", "every", "cron")), 30)
        assert beat.end() == 0
        assert "Traceback" not in beat.logs()

    for_slots = [line for line in stage.ledger.lines() if line.slot_ms is not None]
    assert {line.value for line in for_slots} == {"plain", "every", "cron"}
    assert len({(line.entry, line.slot_ms) for line in for_slots}) == len(for_slots)
