"""`tw clock`: after a step of the server's clock."""

import pytest

from celery_tw import every

STEP_MS = 3_600_000


@pytest.fixture
def held(wheel):
    """Dispatch is held after a step of an hour."""
    election = wheel._parts.election
    led = election.acquire("a:1:x", lease_ms=60_000)
    election.hold_clock(led.epoch, step_ms=STEP_MS)


@pytest.fixture
def ahead(wheel, shop):
    """One entry whose mark lies an hour ahead."""
    entry = wheel.schedule("tea", shop.tasks["shop.report"].s(), every(60))
    timetable = wheel._parts.timetable
    (stored,) = timetable.read([entry.entry_id])
    mark = str(timetable.now_ms() + STEP_MS)
    assert timetable.writing.change(
        entry.entry_id, version=stored.version, mark_ms=stored.mark_ms, due_ms=int(mark) + 60_000, fields=[("mark", mark)], skipped=None
    )


def test_nothing_to_do_is_said(cli):
    assert cli.done("clock", "show") == "Dispatch is not held.\nNo entry is decided for a time to come.\n"
    assert cli.done("clock", "accept") == "Dispatch is not held: nothing to accept.\n"
    assert cli.done("clock", "repair") == "No entry is decided for a time to come.\n"
    assert cli.json("clock", "show") == {"held": False, "held_since": None, "step": None, "ahead_of_time": []}


def test_a_hold_is_shown_and_accepted_after_a_question(cli, held):
    assert "Redis time stepped by 1 h" in cli.done("clock", "show")
    assert "held since" in cli.done("status")
    assert cli.json("clock", "show")["step"] == 3600
    assert cli.run("clock", "accept", typed="n\n").exit_code == 1
    assert cli.json("clock", "show")["held"] is True
    assert cli.done("clock", "accept", typed="y\n") == "Accepted: dispatch goes on.\n"
    assert cli.json("clock", "accept", "--yes") == {"accepted": False}


def test_marks_ahead_of_time_are_shown_and_repaired_after_a_question(cli, ahead):
    assert "tea" in cli.done("clock", "show")
    refused = cli.run("clock", "repair", typed="n\n")
    assert refused.exit_code == 1
    assert "Set 1 entries back to now?" in refused.stderr
    assert cli.json("clock", "repair", "--yes") == {"repaired": ["tea"]}
    assert cli.json("clock", "show")["ahead_of_time"] == []
