"""What a body has come to, found on record by whoever comes after a process that died before it had passed it on."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import redis
from billiard.exceptions import WorkerLostError
from celery import Celery, states
from celery._state import _task_stack
from celery.exceptions import Retry, TaskRevokedError

import celery_tw
from celery_tw import ResultNotKept, TimeWheel
from celery_tw.integration.runs.outcomes import LARGEST, Retries, Returned, Unshown, read_outcome
from celery_tw.integration.runs.passing_on import pass_on
from celery_tw.integration.runs.runner import runner_of
from celery_tw.runtime.idempotency import only_once
from celery_tw.runtime.lease import LocalLease
from celery_tw.runtime.run import Run
from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.redis.runs.claim import Claim
from celery_tw.stores.redis.runs.right import Right
from tests.stock_worker import runs_tasks_with_an_eta, stock_worker
from tests.waiting import wait_until

KEYS = Keys("shop")
TIMEOUT_S = 10


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    return make_app()


class Body:
    """A task that notes how often its body runs, and a message of it whose first runner died."""

    def __init__(self, app: Celery, act: Callable[[Any], Any], **options: Any) -> None:
        self.app = app
        self.runs = runner_of(app).runs
        self.ran: list[int] = []
        noted = self.ran

        @app.task(base=celery_tw.Task, bind=True, shared=False, name="body", **options)
        def body(self: Any) -> Any:
            noted.append(self.request.retries)
            return act(self)

        self.task = body

    def die_with(self, outcome: Returned | Retries | Unshown, mid: str) -> None:
        """Leave *outcome* on the record of the run *mid*, as a process does that dies before it passes it on."""
        token = self.runs.acquire(Claim(mid=mid, owner="gone:1:x", task="body", task_id="t")).token
        written = outcome.write()
        assert written is not None
        assert self.runs.ran(mid, token, written)
        self.runs.client.delete(KEYS.lease(mid))

    def come_to_die(self, mid: str) -> None:
        """Run the body in this process for the message *mid*, which then dies before Celery hears of it."""
        _task_stack.push(self.task)
        self.task.push_request(id="t", tw_mid=mid, called_directly=False, is_eager=False, args=[], kwargs={}, retries=0)
        try:
            with suppress(Retry):
                self.task()
            runner_of(self.app).heartbeat.remove(self.task.request.tw_run)
        finally:
            self.task.pop_request()
            _task_stack.pop()
        self.runs.client.delete(KEYS.lease(mid))

    def work(self) -> Any:
        return stock_worker(self.app, pool="threads", concurrency=2, shutdown_timeout=TIMEOUT_S)


@pytest.fixture
def mid_of_next_send(app: Celery, monkeypatch: pytest.MonkeyPatch) -> str:
    """The mid that sends get from outside a run, here always the same: the copies of one message."""
    monkeypatch.setattr("celery_tw.integration.runs.sends.random_id", lambda: "m")
    return "m"


@pytest.mark.parametrize("value", [None, 1, "text", [1, {"a": 2.5}], {"tuple": [1, 2]}])
def test_a_result_is_read_as_it_was_written(value: Any) -> None:
    written = Returned(value).write()
    assert written is not None
    assert read_outcome(written) == Returned(value)


@pytest.mark.parametrize("value", [object(), "x" * LARGEST])
def test_what_has_no_json_form_or_is_too_large_is_not_written(value: Any) -> None:
    assert Returned(value).write() is None
    assert Retries("t", [value], {}, {}).write() is None


def test_a_result_that_cannot_be_put_on_record_is_passed_on_as_ever(app: Celery) -> None:
    body = Body(app, lambda _: "x" * LARGEST)
    with body.work():
        assert body.task.delay().get(timeout=TIMEOUT_S) == "x" * LARGEST


def test_a_body_whose_result_was_not_kept_does_not_run_again_and_fails(app: Celery, mid_of_next_send: str) -> None:
    body = Body(app, lambda _: 1)
    body.die_with(Unshown("bytes"), mid_of_next_send)
    with body.work(), pytest.raises(ResultNotKept, match="bytes"):
        body.task.apply_async(task_id="t").get(timeout=TIMEOUT_S)
    assert body.ran == []


def test_a_result_that_reached_the_backend_is_taken_from_there(app: Celery, mid_of_next_send: str) -> None:
    body = Body(app, lambda _: 1)
    body.die_with(Unshown("str"), mid_of_next_send)
    app.backend.store_result("t", "x" * LARGEST, states.SUCCESS)
    with body.work():
        body.task.apply_async(task_id="t")
        wait_until(lambda: not body.runs.under_way.read([mid_of_next_send]), TIMEOUT_S, message="the run to end")
    assert app.AsyncResult("t").result == "x" * LARGEST
    assert body.ran == []


@runs_tasks_with_an_eta
@pytest.mark.parametrize("countdown", [0, 0.5])
def test_a_retry_that_was_written_down_and_not_sent_is_sent_without_the_body(app: Celery, mid_of_next_send: str, countdown: float) -> None:
    body = Body(app, lambda task: task.request.retries)
    body.die_with(Retries("t", [], {}, {"retries": 1, "countdown": countdown}), mid_of_next_send)
    with body.work():
        assert body.task.apply_async(task_id="t").get(timeout=TIMEOUT_S) == 1
    assert body.ran == [1]


@runs_tasks_with_an_eta
def test_a_retry_that_was_sent_before_its_process_died_runs_once(app: Celery, redis_client: redis.Redis, mid_of_next_send: str) -> None:
    body = Body(app, lambda task: task.retry(countdown=0) if task.request.retries == 0 else "done")
    body.come_to_die(mid_of_next_send)
    body.come_to_die(mid_of_next_send)
    assert body.ran == [0]
    assert redis_client.llen("celery") == 2
    with body.work():
        assert app.AsyncResult("t").get(timeout=TIMEOUT_S) == "done"
        wait_until(lambda: redis_client.llen("celery") == 0 and redis_client.hlen("unacked") == 0, message="the copy to be dropped")
    assert body.ran == [0, 1]


@runs_tasks_with_an_eta
def test_a_process_that_lost_its_run_does_not_send_its_retry(app: Celery, redis_client: redis.Redis) -> None:
    def lose_then_retry(task: Any) -> Any:
        if len(body.ran) == 1:
            body.runs.finish(Right.of_owner(""), "lost", mid=task.request.tw_run.mid, task_id=task.request.id)
            raise task.retry(countdown=0)
        return task.request.retries

    body = Body(app, lose_then_retry)
    with body.work():
        assert body.task.delay().get(timeout=TIMEOUT_S) == 0
    assert body.ran == [0, 0]


def test_a_retry_that_is_cancelled_before_its_run_says_retry_stays_revoked(app: Celery, redis_client: redis.Redis) -> None:
    wheel = TimeWheel(app)
    redis_client.set(KEYS.seen, redis_client.time()[0] * 1000)

    def retry_and_be_cancelled(task: Any) -> Any:
        try:
            raise task.retry(countdown=60)
        except Retry:
            assert wheel.cancel(task.request.id).found
            raise

    body = Body(app, retry_and_be_cancelled)
    with body.work():
        result = body.task.delay()
        wait_until(lambda: body.ran and not redis_client.exists(KEYS.running), TIMEOUT_S, message="the run to end")
        with pytest.raises(TaskRevokedError):
            result.get(timeout=TIMEOUT_S)
    assert result.state == states.REVOKED
    assert not redis_client.exists(KEYS.due)


def test_a_retry_stays_a_retry_when_an_earlier_send_of_its_id_was_cancelled(app: Celery, redis_client: redis.Redis) -> None:
    wheel = TimeWheel(app)
    redis_client.set(KEYS.seen, redis_client.time()[0] * 1000)
    body = Body(app, lambda task: task.retry(countdown=60))
    body.task.apply_async(task_id="t", countdown=60)
    wheel.cancel("t")
    with body.work():
        body.task.apply_async(task_id="t")
        wait_until(lambda: body.ran and not redis_client.exists(KEYS.running), TIMEOUT_S, message="the run to end")
    assert app.AsyncResult("t").state == states.RETRY


def test_a_key_has_its_result_as_soon_as_a_body_has_run_whoever_passes_it_on(app: Celery) -> None:
    runs, guards = runner_of(app).runs, [only_once("k")]
    token = runs.acquire(Claim(mid="a", owner="gone:1:x", task="body", task_id="a", guards=guards)).token
    assert runs.ran("a", token, b"1")
    runs.finish(Right.of_owner("gone:1:"), "lost", mid="a", task_id="a", guards=guards)
    second = runs.acquire(Claim(mid="b", owner="p", task="body", task_id="b", guards=guards))
    assert (second.verdict, second.result) == ("ran", b"1")


def test_a_task_that_the_broker_brings_once_more_after_too_many_losses_fails_without_its_body(
    make_app: Callable[..., Celery], mid_of_next_send: str
) -> None:
    app = make_app(tw_max_reassignments=2)
    body = Body(app, lambda _: 1)
    for number in range(3):
        body.runs.acquire(Claim(mid=mid_of_next_send, owner=f"gone:{number}:x", task="body", task_id="t"))
        body.runs.finish(Right.of_owner(f"gone:{number}:"), "lost", mid=mid_of_next_send, task_id="t")
    with body.work(), pytest.raises(WorkerLostError, match="3 times"):
        body.task.apply_async(task_id="t").get(timeout=TIMEOUT_S)
    assert body.ran == []


def test_a_part_of_a_chord_waits_until_the_claim_of_a_dead_process_on_the_body_has_expired(app: Celery, redis_client: redis.Redis) -> None:
    body = Body(app, lambda _: 1)
    claim = app.backend.get_key_for_group("g", ".c")
    redis_client.set(claim, "a dead process", px=500)
    body.task.push_request(id="t", group="g", chord={"task": "gather"})
    try:
        run = Run(mid="m", task_id="t", task="body", token="1", lease=LocalLease())
        assert pass_on(body.task, run, Returned(7)) == 7
        assert not redis_client.exists(claim)
    finally:
        body.task.pop_request()


@runs_tasks_with_an_eta
def test_a_retry_begins_when_the_run_before_it_has_said_retry(app: Celery, redis_client: redis.Redis) -> None:
    """Or Celery would write RETRY over its result."""

    def retry_at_first(task: Any) -> Any:
        if task.request.retries == 0:
            try:
                raise task.retry(countdown=0)
            finally:
                wait_until(lambda: redis_client.llen("celery") == 0, TIMEOUT_S, message="the retry to be taken off its queue")
        assert app.AsyncResult(task.request.id).state == states.RETRY
        return "done"

    body = Body(app, retry_at_first)
    with body.work():
        assert body.task.delay().get(timeout=TIMEOUT_S) == "done"
    assert body.ran == [0, 1]
