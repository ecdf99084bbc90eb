"""The judge of random kills finds what is wrong, and excuses only what a kill excuses."""

from typing import Any

from celery_tw.testing.ledger import Line, What
from tests.runs.verdict import ON_RECORD_MS, Sent, Verdict, judge

SENT = Sent(kind="alone", result_id="t", task_ids=["t"], expected=1)


def started(at_ms: int, *, mid: str = "m", pid: int = 1, lock: str | None = None) -> Line:
    return Line(what=What.STARTED, at_ms=at_ms, mid=mid, task_id="t", value={"pid": pid, "lock": lock})


def ended(at_ms: int, *, mid: str = "m", pid: int = 1) -> Line:
    return Line(what=What.ENDED, at_ms=at_ms, mid=mid, task_id="t", value={"pid": pid})


def received(*, mid: str = "m") -> Line:
    return Line(what=What.RECEIVED, at_ms=0, mid=mid, task_id="t", value={"pid": 8})


def published(*, mid: str = "m") -> Line:
    return Line(what=What.PUBLISHED, at_ms=0, mid=mid, task_id="t", value={"pid": 9})


def verdict_on(*lines: Line, results: dict[str, Any] | None = None, killed: dict[int, int] | None = None, redis: bool = False) -> Verdict:
    return judge([SENT], {"t": 1} if results is None else results, lines, killed or {}, transport_may_lose=redis)


def kinds(verdict: Verdict) -> list[str]:
    return [violation.partition(":")[0] for violation in verdict.violations]


def test_one_body_with_the_right_result_is_right() -> None:
    verdict = verdict_on(started(1), ended(2))
    assert (verdict.violations, verdict.sent, verdict.bodies, verdict.again) == ([], 1, 1, 0)


def test_a_wrong_result_is_found() -> None:
    assert kinds(verdict_on(started(1), ended(2), results={"t": 2})) == ["wrong"]


def test_a_missing_result_is_a_loss() -> None:
    assert kinds(verdict_on(started(1), ended(2), results={})) == ["lost"]
    assert kinds(verdict_on(results={})) == ["lost"]


def test_what_redis_may_have_lost_on_its_way_is_counted_apart() -> None:
    verdict = verdict_on(published(), results={}, redis=True)
    assert (verdict.violations, verdict.never_begun) == ([], ["alone t"])
    assert kinds(verdict_on(results={}, redis=True)) == ["lost"], "it was never sent"
    assert kinds(verdict_on(published(), results={})) == ["lost"], "not on RabbitMQ"
    assert kinds(verdict_on(published(), received(), results={}, redis=True)) == ["lost"], "it came to a worker"


def test_a_second_body_is_excused_by_a_kill_in_the_first() -> None:
    verdict = verdict_on(started(1), started(9, pid=2), ended(10, pid=2), killed={1: 5})
    assert (verdict.violations, verdict.again) == ([], 1)


def test_a_second_body_is_excused_by_a_kill_right_after_the_first() -> None:
    assert kinds(verdict_on(started(1), ended(2), started(9, pid=2), killed={1: 5})) == []


def test_a_second_body_without_a_kill_is_found() -> None:
    assert kinds(verdict_on(started(1), ended(2), started(9, pid=2))) == ["repeated"]


def test_a_kill_after_the_second_has_begun_excuses_nothing() -> None:
    assert kinds(verdict_on(started(1), ended(2), started(9, pid=2), killed={1: 20})) == ["repeated"]


def test_a_kill_long_after_the_first_was_on_record_excuses_nothing() -> None:
    late_ms = 3 * ON_RECORD_MS
    assert kinds(verdict_on(started(1), ended(2), started(late_ms, pid=2), killed={1: 2 * ON_RECORD_MS})) == ["repeated"]


def test_two_bodies_of_one_run_at_a_time_are_found() -> None:
    assert kinds(verdict_on(started(1), started(3, pid=2), ended(4), ended(5, pid=2))) == ["repeated", "two at a time"]


def test_two_runs_under_one_lock_at_a_time_are_found() -> None:
    lines = [started(1, lock="k"), started(3, mid="n", pid=2, lock="k"), ended(4), ended(5, mid="n", pid=2)]
    assert kinds(verdict_on(*lines)) == ["two at a time"]
    lines = [started(1, lock="k"), started(3, mid="n", pid=2, lock="other"), ended(4), ended(5, mid="n", pid=2)]
    assert kinds(verdict_on(*lines)) == []


def test_the_lock_of_the_dead_may_be_taken() -> None:
    assert kinds(verdict_on(started(1, lock="k"), started(9, mid="n", pid=2, lock="k"), killed={1: 5})) == []
