"""What is counted when a task goes out with Celery's own ETA, and how often it is said."""

import pytest

from celery_tw.integration.deferring.fallbacks import Fallbacks


def test_each_is_counted_and_each_reason_warned_of_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    fallbacks = Fallbacks()
    for now_ms in (0, 1, 59_999, 60_000, 60_001):
        fallbacks.record("leaderless", task="shop.add", why="nobody leads", now_ms=now_ms)
    fallbacks.record("too large", task="shop.add", why="it has 300,000 bytes", now_ms=2)

    assert fallbacks.counts == {"leaderless": 5, "too large": 1}
    assert [record.getMessage() for record in caplog.records] == [
        "shop.add went out with Celery's own ETA and waits in a worker: nobody leads (1 so far)",
        "shop.add went out with Celery's own ETA and waits in a worker: nobody leads (4 so far)",
        "shop.add went out with Celery's own ETA and waits in a worker: it has 300,000 bytes (1 so far)",
    ]
