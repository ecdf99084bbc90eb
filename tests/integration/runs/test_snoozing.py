"""A task that puts itself off begins again later as the same attempt, with what belongs to it."""

from collections.abc import Callable
from typing import Any

import pytest
import redis
from celery import Celery, chain
from celery.exceptions import Retry

import celery_tw
from celery_tw.errors import InvalidSchedule
from celery_tw.integration.runs.run_headers import mid_of
from celery_tw.integration.runs.sends import mint
from celery_tw.stores.redis.keys import Keys
from tests.stock_worker import working
from tests.waiting import wait_until

MakeApp = Callable[..., Celery]
KEYS = Keys("shop")
TIMEOUT_S = 10
NODE = f"{'0' * 32}.1.1"


@pytest.fixture
def app(make_app: MakeApp) -> Celery:
    return make_app(tw_defer_eta="always")


class Early:
    """A task that puts itself off by *seconds* until it has been run *ready_after* times."""

    def __init__(self, app: Celery, *, seconds: Any = 0, ready_after: int, **options: Any) -> None:
        self.ran: list[tuple[int, str]] = []

        @app.task(name="shop.early", base=celery_tw.Task, bind=True, shared=False, **options)
        def early(task: Any, value: Any = None) -> Any:
            self.ran.append((task.request.retries, mid_of(task.request)))
            if len(self.ran) <= ready_after:
                task.snooze(seconds)
            return value

        self.task = early


def test_no_attempt_is_counted_however_often_it_is_put_off(app: Celery) -> None:
    early = Early(app, ready_after=5, max_retries=1)
    with working(app):
        assert early.task.delay("done").get(timeout=TIMEOUT_S) == "done"

    assert [retries for retries, _ in early.ran] == [0] * 6
    assert len({mid for _, mid in early.ran}) == 6, "each is a send of its own"


def test_it_waits_in_the_timetable_under_its_id(app: Celery, redis_client: redis.Redis) -> None:
    early = Early(app, seconds=3600, ready_after=1)
    with working(app):
        result = early.task.delay()
        wait_until(lambda: result.state == "RETRY", message="it to be put off")
        wait_until(lambda: not redis_client.hlen(KEYS.running), message="its run to end")
    assert redis_client.hexists(KEYS.by_task, result.id)


def test_what_follows_it_in_a_chain_follows_when_it_has_run(app: Celery) -> None:
    early = Early(app, ready_after=1)

    @app.task(shared=False)
    def add_one(value: int) -> int:
        return value + 1

    with working(app):
        assert chain(early.task.s(1), add_one.s(), app=app).apply_async().get(timeout=TIMEOUT_S) == 2
    assert len(early.ran) == 2


def test_a_retry_after_it_counts_on(app: Celery) -> None:
    seen: list[int] = []

    @app.task(base=celery_tw.Task, bind=True, shared=False, retry=celery_tw.Retry(max=1, base=0))
    def mixed(task: Any) -> int:
        seen.append(task.request.retries)
        if len(seen) in (1, 3):
            task.snooze(0)
        if len(seen) == 2:
            raise OSError("down")
        return len(seen)

    with working(app):
        assert mixed.delay().get(timeout=TIMEOUT_S) == 4
    assert seen == [0, 0, 1, 1]


def test_what_is_no_duration_is_the_tasks_failure(app: Celery) -> None:
    early = Early(app, seconds="soon", ready_after=1)
    with working(app), pytest.raises(InvalidSchedule, match="snooze takes a number of seconds"):
        early.task.delay().get(timeout=TIMEOUT_S)
    assert len(early.ran) == 1


def test_called_directly_nothing_is_sent(app: Celery, redis_client: redis.Redis) -> None:
    early = Early(app, seconds=3600, ready_after=1)
    with pytest.raises(Retry):
        early.task()
    assert not redis_client.exists(KEYS.due)


def test_eagerly_it_runs_again_at_once(app: Celery) -> None:
    early = Early(app, seconds=3600, ready_after=2)
    assert early.task.apply(("done",)).get() == "done"
    assert len(early.ran) == 3


def test_a_node_that_is_put_off_is_another_send_of_it() -> None:
    assert mint(NODE) == mint(NODE)
    assert len({mint(NODE), mint(NODE, snoozes=1), mint(NODE, snoozes=2), mint(NODE, retries=1), mint(NODE, retries=1, snoozes=1)}) == 5
