"""`tw status`: who leads and how the timetable stands."""

from celery_tw import every


def test_without_a_scheduler_it_says_how_to_start_one(cli):
    said = cli.done("status")
    assert "leader" in said
    assert "No scheduler runs: start one with celery -A proj beat -S timewheel" in said


def test_it_names_the_leader_and_the_stand_bys(cli, wheel):
    election = wheel._parts.election
    election.acquire("a:1:x", lease_ms=60_000)
    election.enrol("a:1:x", {"host": "a", "pid": 1, "leads": True, "skew_ms": 12})
    election.enrol("b:2:y", {"host": "b", "pid": 2, "leads": True, "skew_ms": 0})  # it led when it died
    said = cli.done("status")
    assert "a:1:x (epoch " in said
    assert [line.split()[3] for line in said.splitlines() if line.startswith(("a:1:x", "b:2:y"))] == ["leader", "stand-by"]
    found = cli.json("status")["status"]
    assert (found["leader"], found["members"][0]["skew"]) == ("a:1:x", 0.012)


def test_it_counts_entries(cli, wheel, shop):
    wheel.schedule("tea", shop.tasks["shop.report"].s(), every(60))
    assert "1, of which 1 wait for a slot" in cli.done("status")
    assert cli.json("status")["status"]["names"] == 1
