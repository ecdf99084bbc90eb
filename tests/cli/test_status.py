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


def test_it_says_how_a_fire_reaches_the_broker_and_what_waits_for_it(cli, wheel, redis_client):
    keys = wheel._parts.keys
    assert "one script on the Redis broker" in cli.done("status")
    for number in ("1-1", "1-2"):
        redis_client.xadd(keys.outbox, {"entry": "2", "delivery": "at_least_once", "message": "{}"}, id=number)
    redis_client.hset(keys.refused, "1-1", '{"count": 1}')
    redis_client.hset(keys.buried, "0-1", "{}")
    redis_client.hset(keys.bad, "message 0-1", '{"reason": "its queue is full"}')
    said = cli.done("status")
    assert "2 wait for the broker, 1 of them refused by it, 1 buried" in said
    assert "tw outbox show 0-1" in said
    assert cli.json("status")["status"]["claimed"] == 2
