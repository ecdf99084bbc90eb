"""Long tasks: without a leader, without Redis, and with states that cannot be kept. Real kills are in ``tests/processes``."""

from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery

import celery_tw
from celery_tw import LeaderMissing
from celery_tw.errors import InvalidCheckpoint
from tests.stock_worker import working

MakeApp = Callable[..., Celery]
TIMEOUT_S = 10


@pytest.fixture
def app(make_app: MakeApp) -> Celery:
    return make_app()


def test_direct_and_eager_calls_need_no_redis() -> None:
    app = Celery("shop", broker="redis://127.0.0.1:1/0", set_as_current=False)
    app.conf.task_always_eager = True

    @app.task(base=celery_tw.LongTask, bind=True, shared=False, lock="{n}", unique=True)
    def count(self: Any, n: int) -> int:
        state = self.checkpoint.load(default={"done": 0})
        for _ in self.iterate(range(n), state, every=2):
            state["done"] += 1
        self.lease.check()
        assert self.checkpoint.load() == state
        return int(state["done"])

    assert count(5) == 5
    assert count.delay(5).get() == 5
    assert count.apply((5,)).get() == 5


def test_a_long_task_is_refused_while_nobody_leads(app: Celery) -> None:
    @app.task(base=celery_tw.LongTask, shared=False)
    def rebuild() -> None:
        """Do nothing."""

    with working(app), pytest.raises(LeaderMissing, match="needs a scheduler that leads"):
        rebuild.delay().get(timeout=TIMEOUT_S)


@pytest.mark.parametrize("state", [object(), "x" * 2_000_000])
def test_a_checkpoint_that_cannot_be_kept_is_refused(state: Any) -> None:
    app = Celery("shop", set_as_current=False)

    @app.task(base=celery_tw.LongTask, bind=True, shared=False)
    def save(self: Any) -> None:
        self.checkpoint.save(state)

    with pytest.raises(InvalidCheckpoint):
        save()
