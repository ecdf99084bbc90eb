"""Runs on record, with real workers that live: what one hands to the next, and how a run is stopped."""

from collections.abc import Callable

import pytest
from celery.exceptions import TaskRevokedError

from tests.processes.yard import TIMEOUT_S, Yard

pytestmark = [pytest.mark.processes, pytest.mark.long]


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_running_task_is_cancelled_with_its_last_checkpoint_saved(make_yard: Callable[..., Yard], pool: str) -> None:
    yard = make_yard().beat()
    yard.worker(pool)
    result = yard.send("count", 100_000)
    yard.wait_for_progress(result, 300)

    assert yard.wheel.cancel(result.id, reason="no longer wanted").stopping

    with pytest.raises(TaskRevokedError, match="no longer wanted"):
        result.get(timeout=TIMEOUT_S)
    assert result.state == "REVOKED"
    yard.wait_until_nothing_runs()


def test_a_lock_is_handed_on_as_soon_as_it_is_released(make_yard: Callable[..., Yard]) -> None:
    yard = make_yard(tw_lock_timeout=60).beat()
    yard.worker()
    results = [yard.send("slow", "a", 0.5) for _ in range(3)]

    assert [result.get(timeout=TIMEOUT_S / 2) for result in results] == ["a"] * 3, "long before its time-out"
    assert [line.value for line in yard.ledger.lines()] == ["begins", "ends"] * 3
