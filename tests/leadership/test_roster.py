"""Who lives, and whose clock agrees, by their lines alone."""

from celery_tw.leadership.roster import SILENT_LEASES, Roster

LEASE_MS = 1000


def line(counter: int, skew_ms: int = 0) -> dict[str, int]:
    return {"counter": counter, "skew_ms": skew_ms}


def test_a_line_whose_counter_stands_still_for_five_leases_is_silent():
    roster = Roster(lease_ms=LEASE_MS)
    limit_ms = SILENT_LEASES * LEASE_MS

    assert roster.observe({"a": line(1)}, boot_ms=0) == []
    assert roster.observe({"a": line(1)}, boot_ms=limit_ms) == []
    assert roster.observe({"a": line(1)}, boot_ms=limit_ms + 1) == ["a"]


def test_a_counter_that_moves_begins_a_new_silence():
    roster = Roster(lease_ms=LEASE_MS)
    roster.observe({"a": line(1), "b": line(1)}, boot_ms=0)
    roster.observe({"a": line(2), "b": line(1)}, boot_ms=4000)

    assert roster.observe({"a": line(2), "b": line(1)}, boot_ms=5001) == ["b"]


def test_a_line_that_has_gone_is_forgotten():
    roster = Roster(lease_ms=LEASE_MS)
    roster.observe({"a": line(1)}, boot_ms=0)
    roster.observe({}, boot_ms=1)

    assert roster.observe({"a": line(1)}, boot_ms=6000) == []


def test_a_line_without_numbers_counts_as_zero():
    roster = Roster(lease_ms=LEASE_MS)
    roster.observe({"a": {"counter": "many"}, "b": {}}, boot_ms=0)

    assert sorted(roster.observe({"a": line(0), "b": line(0)}, boot_ms=6000)) == ["a", "b"]


def test_a_step_is_shared_when_most_clocks_moved_with_redis():
    roster = Roster(lease_ms=LEASE_MS)
    roster.observe({"a": line(1), "b": line(1), "c": line(1)}, boot_ms=0)

    roster.observe({"a": line(2, -50), "b": line(2, 50), "c": line(2, -9000)}, boot_ms=1000)

    assert roster.share_a_step(max_skew_ms=50)
    assert not roster.share_a_step(max_skew_ms=49)


def test_half_of_the_clocks_is_not_most():
    roster = Roster(lease_ms=LEASE_MS)
    roster.observe({"a": line(1), "b": line(1)}, boot_ms=0)
    roster.observe({"a": line(2), "b": line(2, -9000)}, boot_ms=1000)

    assert not roster.share_a_step(max_skew_ms=50)


def test_skews_are_compared_with_those_at_the_last_settling():
    roster = Roster(lease_ms=LEASE_MS)
    roster.observe({"a": line(1)}, boot_ms=0)
    roster.observe({"a": line(2, -9000)}, boot_ms=1000)
    roster.observe({"a": line(3, -9000)}, boot_ms=2000)
    assert not roster.share_a_step(max_skew_ms=50)

    roster.settle()

    assert roster.share_a_step(max_skew_ms=50)


def test_settling_does_not_make_the_silent_speak():
    roster = Roster(lease_ms=LEASE_MS)
    roster.observe({"a": line(1)}, boot_ms=0)
    roster.settle()

    assert roster.observe({"a": line(1)}, boot_ms=5001) == ["a"]
