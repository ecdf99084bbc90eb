"""Retry policies in a worker of threads: which failures are tried again, how often, when, and what is left alone."""

import time
from collections.abc import Callable
from typing import Any

import celery
import pytest
import redis
from celery import Celery, signals
from celery.exceptions import Ignore, Reject

import celery_tw
from celery_tw import Retry, TimeWheel
from celery_tw.errors import ImproperlyConfigured
from celery_tw.integration.runs.guarding import refuse_guards_without_base
from celery_tw.stores.redis.keys import Keys
from tests.stock_worker import working
from tests.waiting import wait_until

MakeApp = Callable[..., Celery]
KEYS = Keys("shop")
TIMEOUT_S = 10
HOUR_S = 3600
AT_ONCE = {"base": 0}


@pytest.fixture
def app(make_app: MakeApp) -> Celery:
    return make_app(tw_defer_eta="always")


class Flaky:
    """A task that fails with *error* until it has been run *good_after* times; *ran* lists the retries before each run."""

    def __init__(self, app: Celery, policy: Retry, *, error: Exception | None = None, good_after: int = 1000, **options: Any) -> None:
        self.ran: list[int] = []
        error = error or OSError("down")

        @app.task(bind=True, shared=False, **{"name": "shop.flaky", "base": celery_tw.Task, "retry": policy, **options})
        def flaky(task: Any) -> int:
            self.ran.append(task.request.retries)
            if len(self.ran) <= good_after:
                raise error
            return len(self.ran)

        self.task = flaky


def due_in_s(client: redis.Redis) -> list[float]:
    """Return in how many seconds each task that waits is due, the first first."""
    return [due_ms / 1000 - time.time() for _, due_ms in client.zrange(KEYS.due, 0, -1, withscores=True)]


def test_a_task_that_fails_is_run_again_until_it_succeeds(app: Celery) -> None:
    flaky = Flaky(app, Retry(max=5, **AT_ONCE), good_after=2)
    with working(app):
        assert flaky.task.delay().get(timeout=TIMEOUT_S) == 3
    assert flaky.ran == [0, 1, 2]


def test_past_its_last_retry_the_task_fails_with_its_own_error_once(app: Celery) -> None:
    failures: list[Any] = []

    def receive(sender: Any, exception: Exception, **_: Any) -> None:
        if sender.app is app:
            failures.append(exception)

    signals.task_failure.connect(receive)
    flaky = Flaky(app, Retry(max=2, **AT_ONCE))
    with working(app), pytest.raises(OSError, match="down"):
        flaky.task.delay().get(timeout=TIMEOUT_S)
    signals.task_failure.disconnect(receive)

    assert flaky.ran == [0, 1, 2]
    assert [str(error) for error in failures] == ["down"]


def test_the_limit_is_the_policys_and_not_the_one_of_the_task(app: Celery) -> None:
    flaky = Flaky(app, Retry(max=None, **AT_ONCE), good_after=5, max_retries=1)
    with working(app):
        assert flaky.task.delay().get(timeout=TIMEOUT_S) == 6


def test_each_type_of_error_has_its_own_policy(app: Celery) -> None:
    policy = Retry(max=1, **AT_ONCE, on={OSError: Retry(max=0), ConnectionError: Retry(max=3, **AT_ONCE)})
    errors = [ConnectionError("x"), FileNotFoundError("x"), ValueError("x")]
    tasks = [Flaky(app, policy, error=error, name=f"shop.{type(error).__name__}") for error in errors]
    with working(app):
        for flaky in tasks:
            with pytest.raises(Exception, match="x"):
                flaky.task.delay().get(timeout=TIMEOUT_S)
    assert [len(flaky.ran) for flaky in tasks] == [4, 1, 2]


def test_a_retry_waits_in_the_timetable(app: Celery, redis_client: redis.Redis) -> None:
    flaky = Flaky(app, Retry(base=HOUR_S, cap=HOUR_S, jitter="none"))
    with working(app):
        result = flaky.task.delay()
        wait_until(lambda: redis_client.zcard(KEYS.due) == 1, message="its retry to wait")
        wait_until(lambda: result.state == "RETRY", message="its state to be known")
    assert redis_client.hexists(KEYS.by_task, result.id)
    assert HOUR_S - 60 < due_in_s(redis_client)[0] <= HOUR_S


def test_a_task_that_is_too_old_is_not_tried_again(app: Celery) -> None:
    old_ms = int((time.time() - HOUR_S) * 1000)
    flaky = Flaky(app, Retry(max=None, **AT_ONCE, max_age=HOUR_S / 2))
    with working(app), pytest.raises(OSError, match="down"):
        flaky.task.apply_async(headers={"tw_first": old_ms}).get(timeout=TIMEOUT_S)
    assert flaky.ran == [0]


def test_a_retry_that_would_begin_too_late_is_not_made(app: Celery) -> None:
    flaky = Flaky(app, Retry(base=HOUR_S, cap=HOUR_S, jitter="none", max_age=HOUR_S / 2))
    with working(app), pytest.raises(OSError, match="down"):
        flaky.task.delay().get(timeout=TIMEOUT_S)
    assert flaky.ran == [0]


def test_the_age_of_a_replay_is_not_counted_from_the_slot_of_what_died(app: Celery) -> None:
    old_ms = int((time.time() - HOUR_S) * 1000)
    flaky = Flaky(app, Retry(max=1, **AT_ONCE, max_age=HOUR_S / 2))
    with working(app):
        for headers in ({"tw_slot": old_ms}, {"tw_slot": old_ms, "tw_replay_of": "m1", "tw_generation": 1}):
            publish_raw(app, headers)
        wait_until(lambda: len(flaky.ran) == 3, message="the replay to be tried again")
        wait_until(lambda: app.AsyncResult("t-m1").state == "FAILURE")
    assert flaky.ran == [0, 0, 1]


def publish_raw(app: Celery, headers: dict[str, Any]) -> None:
    """Send a message as the leader does, which adds no header of its own."""
    letter_id = headers.get("tw_replay_of", "m0")
    with app.connection_for_write() as connection:
        connection.Producer().publish(
            [[], {}, {}],
            routing_key="celery",
            exchange="",
            serializer="json",
            headers={"id": f"t-{letter_id}", "task": "shop.flaky", "tw_mid": f"{letter_id}:1", **headers},
        )


def test_the_age_is_counted_from_the_first_send_over_all_retries(app: Celery) -> None:
    sent: list[int] = []

    def receive(sender: str, headers: dict[str, Any], **_: Any) -> None:
        if sender == "shop.flaky":
            sent.append(headers["tw_first"])

    signals.before_task_publish.connect(receive)
    flaky = Flaky(app, Retry(max=2, **AT_ONCE, max_age=HOUR_S), good_after=2)
    before_ms = time.time_ns() // 1_000_000
    with working(app):
        flaky.task.delay().get(timeout=TIMEOUT_S)
    signals.before_task_publish.disconnect(receive)

    assert len(sent) == 3
    assert len(set(sent)) == 1
    assert sent[0] >= before_ms


def test_a_task_whose_age_does_not_count_carries_no_first_send(app: Celery) -> None:
    sent: list[bool] = []

    def receive(sender: str, headers: dict[str, Any], **_: Any) -> None:
        sent.append("tw_first" in headers)

    signals.before_task_publish.connect(receive)
    flaky = Flaky(app, Retry())
    flaky.task.delay()
    signals.before_task_publish.disconnect(receive)
    assert sent == [False]


def test_a_spent_budget_delays_a_retry_and_loses_none(app: Celery, redis_client: redis.Redis) -> None:
    flaky = Flaky(app, Retry(max=1, **AT_ONCE, budget=(1, HOUR_S)))
    with working(app):
        first = flaky.task.delay()
        with pytest.raises(OSError, match="down"):
            first.get(timeout=TIMEOUT_S)
        assert flaky.ran == [0, 1]
        flaky.task.delay()
        flaky.task.delay()
        wait_until(lambda: redis_client.zcard(KEYS.due) == 2, message="both retries to wait")
    assert [round(due_s / HOUR_S, 1) for due_s in due_in_s(redis_client)] == [1, 2]


def test_a_budget_that_cannot_be_met_before_the_greatest_age_ends_the_task(app: Celery) -> None:
    flaky = Flaky(app, Retry(max=9, **AT_ONCE, budget=(1, HOUR_S), max_age=HOUR_S / 2))
    with working(app), pytest.raises(OSError, match="down"):
        flaky.task.delay().get(timeout=TIMEOUT_S)
    assert flaky.ran == [0, 1]


def test_those_that_cannot_wait_for_the_budget_leave_it_to_others(app: Celery, redis_client: redis.Redis) -> None:
    flaky = Flaky(app, Retry(max=9, **AT_ONCE, budget=(1, HOUR_S), max_age=HOUR_S / 2))
    with working(app):
        for _ in range(3):
            with pytest.raises(OSError, match="down"):
                flaky.task.delay().get(timeout=TIMEOUT_S)
    assert flaky.ran == [0, 1, 0, 0]
    assert 0 < redis_client.pttl(KEYS.retry_budget("shop.flaky")) <= HOUR_S * 1000


@pytest.mark.parametrize("word", [Ignore("enough"), Reject("enough", requeue=False)])
def test_what_is_no_failure_is_left_alone(app: Celery, word: Exception) -> None:
    flaky = Flaky(app, Retry(**AT_ONCE), error=word, good_after=1)
    ended: list[Any] = []

    def receive(sender: Any, state: str, **_: Any) -> None:
        ended.append(state)

    signals.task_postrun.connect(receive)
    with working(app):
        flaky.task.delay()
        wait_until(lambda: ended, message="it to end")
    signals.task_postrun.disconnect(receive)
    assert flaky.ran == [0]


def test_a_body_may_still_ask_for_a_retry_by_hand(app: Celery) -> None:
    ran: list[int] = []

    @app.task(base=celery_tw.Task, bind=True, shared=False, retry=Retry(max=0), max_retries=2)
    def by_hand(task: Any) -> int:
        ran.append(task.request.retries)
        if task.request.retries < 2:
            raise task.retry(countdown=0)
        return int(task.request.retries)

    with working(app):
        assert by_hand.delay().get(timeout=TIMEOUT_S) == 2
    assert ran == [0, 1, 2]


def test_eagerly_a_task_is_tried_again_at_once(app: Celery) -> None:
    flaky = Flaky(app, Retry(max=3, base=HOUR_S, budget=(1, HOUR_S), max_age=None), good_after=2)
    assert flaky.task.apply().get() == 3


def test_called_directly_it_is_a_function(app: Celery) -> None:
    flaky = Flaky(app, Retry(max=3, **AT_ONCE))
    with pytest.raises(OSError, match="down"):
        flaky.task()
    assert flaky.ran == [0]


def test_a_pattern_gives_a_policy_to_tasks_without_our_base(app: Celery) -> None:
    TimeWheel(app, guard={"shop.*": {"retry": Retry(max=2, **AT_ONCE)}})
    ran: list[int] = []

    @app.task(name="shop.plain", bind=True, shared=False)
    def plain(task: Any) -> int:
        ran.append(task.request.retries)
        if task.request.retries < 2:
            raise OSError("down")
        return int(task.request.retries)

    with working(app):
        assert plain.delay().get(timeout=TIMEOUT_S) == 2
    assert ran == [0, 1, 2]


@pytest.mark.parametrize("base", [celery.Task, celery_tw.Task])
def test_the_decorators_policy_stands_beside_a_patterns_and_retry_stays_a_method(app: Celery, base: Any) -> None:
    own = Retry(max=7)
    TimeWheel(app, guard={"shop.*": {"retry": Retry(max=2)}})
    flaky = Flaky(app, own, base=base)
    app.finalize()

    assert flaky.task.tw_retry == own
    assert callable(flaky.task.retry)


def test_a_policy_without_our_base_is_refused_by_name(app: Celery) -> None:
    TimeWheel(app)
    _ = Flaky(app, Retry(), base=celery.Task)
    with pytest.raises(ImproperlyConfigured, match="the task shop.flaky has the option 'retry'"):
        refuse_guards_without_base(app)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"retry": 5}, "option retry: expected a celery_tw.Retry, got 5"),
        ({"autoretry_for": (OSError,)}, "expected no autoretry_for beside it"),
    ],
)
def test_what_is_no_policy_or_one_too_many_is_refused(app: Celery, options: dict[str, Any], match: str) -> None:
    _ = Flaky(app, Retry(), **options)
    with pytest.raises(ImproperlyConfigured, match=match):
        app.finalize()
