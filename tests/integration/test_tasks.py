"""Guarded tasks in a worker of threads: which of them run, and with what result. Real kills are in ``tests/processes``."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from celery import Celery, chain, chord
from celery.exceptions import TaskRevokedError

import celery_tw
import celery_tw.runtime.ordering
import celery_tw.stores.redis.runs
from celery_tw import LeaderMissing, LockBusy, TimeWheel
from celery_tw.errors import ImproperlyConfigured, InvalidCheckpoint
from celery_tw.integration.runs.guarding import GuardsNeedBase, refuse_guards_without_base
from celery_tw.integration.runs.runner import mid_of, runner_of
from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.redis.runs import Right
from tests.stock_worker import stock_worker
from tests.waiting import wait_until

MakeApp = Callable[..., Celery]
KEYS = Keys("shop")
TIMEOUT_S = 10


@pytest.fixture
def app(make_app: MakeApp) -> Celery:
    return make_app()


@contextmanager
def working(app: Celery, *, concurrency: int = 4) -> Iterator[None]:
    with stock_worker(app, pool="threads", concurrency=concurrency, shutdown_timeout=TIMEOUT_S):
        yield


def keys_left(client: redis.Redis) -> set[str]:
    """Return the names of our keys that hold more than memories of finished runs."""
    names = {key.decode().removeprefix(KEYS.tag + ":") for key in client.keys(KEYS.tag + ":*")}
    return {name for name in names if not name.startswith("done:")} - {"token", "seq", "project", "schema", "news", "news-seq"}


def test_a_guarded_task_gives_its_result_and_leaves_nothing_but_a_digest(app: Celery, redis_client: redis.Redis) -> None:
    @app.task(base=celery_tw.Task, shared=False, lock="add:{x}", max_concurrency=3)
    def add(x: int, y: int) -> int:
        return x + y

    with working(app):
        assert add.delay(1, 2).get(timeout=TIMEOUT_S) == 3
        wait_until(lambda: not keys_left(redis_client), message="the run to be finished")


def test_canvas_works_as_ever(app: Celery) -> None:
    @app.task(base=celery_tw.Task, shared=False)
    def add(x: Any, y: int = 0) -> int:
        return (sum(x) if isinstance(x, list) else x) + y

    with working(app):
        assert chain(add.s(1, 2), add.s(3), app=app).apply_async().get(timeout=TIMEOUT_S) == 6
        assert chord([add.s(1, 2), add.s(3, 4)], app=app)(add.s(5)).get(timeout=TIMEOUT_S) == 15


def test_a_second_copy_of_a_message_is_dropped(app: Celery, redis_client: redis.Redis) -> None:
    ran = []

    @app.task(base=celery_tw.Task, bind=True, shared=False)
    def once(self: Any) -> None:
        ran.append(mid_of(self.request))

    once.delay()
    (message,) = redis_client.lrange("celery", 0, -1)
    redis_client.lpush("celery", message.replace(b'"delivery_tag": "', b'"delivery_tag": "copy-'))
    with working(app, concurrency=1):
        wait_until(lambda: redis_client.llen("celery") == 0 and ran)
        wait_until(lambda: redis_client.hlen("unacked") == 0, message="both copies to be acknowledged")
    assert len(ran) == 1


def test_a_copy_that_finds_a_result_passes_it_on_without_the_body(app: Celery) -> None:
    ran = []

    @app.task(base=celery_tw.Task, bind=True, shared=False)
    def body(self: Any) -> str:
        ran.append(self.request.id)
        return "again"

    runs = runner_of(app).runs
    claim = celery_tw.stores.redis.runs.Claim(mid="m", owner="gone:1:x", task=body.name, task_id="t")
    token = runs.acquire(claim).token
    assert runs.ran("m", token, b'"at first"')
    runs.client.delete(KEYS.lease("m"))
    body.push_request(id="t", tw_mid="m", called_directly=False, is_eager=False)
    try:
        assert body() == "at first"
        celery_signals_end(body)
    finally:
        body.pop_request()
    assert ran == []
    assert runs.acquire(claim).verdict == "done"


@pytest.mark.parametrize("fails", [False, True])
def test_a_process_that_lost_its_run_gives_the_message_back_for_it_may_be_the_only_copy(app: Celery, fails: bool) -> None:
    ran = []

    @app.task(base=celery_tw.Task, bind=True, shared=False)
    def paused_at_first(self: Any) -> int:
        ran.append(self.request.id)
        if len(ran) == 1:
            mid = mid_of(self.request)
            runner_of(app).runs.finish(Right.of_any(), "lost", mid=mid, task_id=self.request.id)
            if fails:
                raise ValueError("what the process makes of the task after that counts for nothing")
        return len(ran)

    with working(app):
        assert paused_at_first.delay().get(timeout=TIMEOUT_S) == 2


def celery_signals_end(task: Any) -> None:
    runner_of(task.app).end(task, task.request.tw_run, "SUCCESS", None)


def test_a_retry_is_a_run_of_its_own(app: Celery) -> None:
    @app.task(base=celery_tw.Task, bind=True, shared=False, max_retries=3)
    def flaky(self: Any) -> int:
        if self.request.retries < 2:
            raise self.retry(countdown=0)
        return int(self.request.retries)

    with working(app):
        assert flaky.delay().get(timeout=TIMEOUT_S) == 2


@pytest.mark.parametrize(("busy", "error"), [("fail", LockBusy), ("skip", TaskRevokedError)])
def test_a_held_lock_makes_a_task_fail_or_skip_as_it_says(app: Celery, redis_client: redis.Redis, busy: str, error: type) -> None:
    @app.task(base=celery_tw.Task, shared=False, lock="k", lock_busy=busy)
    def locked() -> None:
        """Do nothing."""

    redis_client.set(KEYS.guard("lock", "k"), "another run")
    with working(app), pytest.raises(error):
        locked.delay().get(timeout=TIMEOUT_S)


@pytest.mark.parametrize("options", [{"lock": "k"}, {"max_concurrency": 1}, {"ordering_key": "k"}])
def test_a_task_that_finds_its_place_taken_is_parked_and_hurried_when_it_is_free(
    app: Celery, redis_client: redis.Redis, options: dict[str, Any]
) -> None:
    goes_on, began = threading.Event(), threading.Event()

    @app.task(base=celery_tw.Task, shared=False, **options)
    def alone(wait: bool) -> None:
        if wait:
            began.set()
            assert goes_on.wait(TIMEOUT_S)

    with working(app):
        alone.delay(True)
        assert began.wait(TIMEOUT_S)
        alone.delay(False)
        wait_until(lambda: redis_client.zcard(KEYS.due) == 1, message="the second to be parked")
        ((_, parked_until_ms),) = redis_client.zrange(KEYS.due, 0, -1, withscores=True)
        goes_on.set()
        wait_until(lambda: redis_client.zrange(KEYS.due, 0, -1, withscores=True)[0][1] < parked_until_ms, message="it to be hurried")


def test_a_second_task_with_an_idempotency_key_has_the_result_of_the_first(app: Celery) -> None:
    ran = []

    @app.task(base=celery_tw.Task, shared=False, idempotency_key="{order}")
    def pay(order: int, amount: int) -> int:
        ran.append(amount)
        return amount

    with working(app):
        assert pay.delay(1, 10).get(timeout=TIMEOUT_S) == 10
        wait_until(lambda: runner_of(app).runs.client.hget(KEYS.guard("idem", f"{pay.name}:1"), "result"))
        assert pay.delay(1, 20).get(timeout=TIMEOUT_S) == 10
    assert ran == [10]


def test_a_unique_task_is_sent_once_while_it_waits(app: Celery, redis_client: redis.Redis) -> None:
    @app.task(base=celery_tw.Task, shared=False, unique="{0}")
    def refresh(page: str) -> str:
        return page

    first, second, other = refresh.delay("a"), refresh.delay("a"), refresh.delay("b")
    assert first.id == second.id != other.id
    assert redis_client.llen("celery") == 2
    with working(app):
        first.get(timeout=TIMEOUT_S)
        wait_until(lambda: refresh.delay("a").id != first.id, message="the key to be given back")


@pytest.mark.parametrize("end", ["cancelled", "failed", "retried", "done"])
def test_an_order_goes_on_whatever_becomes_of_its_head(app: Celery, end: str) -> None:
    runs, guard = runner_of(app).runs, celery_tw.runtime.ordering.turn("k")
    for mid in ("head", "next"):
        runs.draw_number("k", mid)

    def claim(mid: str) -> Any:
        return celery_tw.stores.redis.runs.Claim(mid=mid, owner=f"p:{mid}", task="t", task_id=mid, guards=[guard])

    assert runs.acquire(claim("next")).verdict == "wait"
    runs.finish(celery_tw.stores.redis.runs.Right.of_any(), end, mid="head", task_id="head", guards=[guard])
    assert runs.acquire(claim("next")).verdict == "run"


def test_a_head_that_does_not_start_is_passed_over(app: Celery) -> None:
    runs, guard = runner_of(app).runs, celery_tw.runtime.ordering.turn("k", patience_ms=1)
    runs.draw_number("k", "lost")
    claim = celery_tw.stores.redis.runs.Claim(mid="next", owner="p", task="t", task_id="next", guards=[guard])
    passed = []

    def starts() -> bool:
        answer = runs.acquire(claim)
        passed.extend(answer.passed_over)
        return answer.verdict == "run"

    wait_until(starts)
    assert passed == ["lost"]


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


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"lock": "k:{acount}"}, "'acount'.*expected one of account"),
        ({"lock": "k:{1}"}, "'1'"),
        ({"lock": 5}, "lock: expected a key template"),
        ({"lock_busy": "hope"}, "lock_busy: expected one of"),
        ({"max_concurrency": 0}, "max_concurrency: expected a whole number"),
        ({"concurrency_key": "{account}"}, "beside concurrency_key"),
        ({"cancel_grace": -1}, "cancel_grace: expected a number of seconds"),
    ],
)
def test_a_wrong_option_is_refused_when_the_task_is_made_known(options: dict[str, Any], match: str) -> None:
    app = Celery("shop", set_as_current=False)

    @app.task(base=celery_tw.Task, shared=False, **options)
    def work(account: str) -> None:
        """Do nothing."""

    with pytest.raises(ImproperlyConfigured, match=match):
        app.finalize()


def test_a_guard_without_our_base_is_refused_by_name() -> None:
    app = Celery("shop", set_as_current=False)
    TimeWheel(app)

    @app.task(name="plain", shared=False, lock="k")
    def plain() -> None:
        """Do nothing."""

    with pytest.raises(ImproperlyConfigured, match="the task plain has the option 'lock'"):
        refuse_guards_without_base(app)
    assert GuardsNeedBase in app.steps["worker"]
