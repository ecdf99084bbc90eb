"""Results that are stored as the run ends, in one step: they are what Celery would have stored, and nobody else's."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from celery import Celery, chain, group, signals
from celery.backends.redis import RedisBackend
from kombu.exceptions import EncodeError

import celery_tw
from celery_tw.embedded import EmbeddedServer
from celery_tw.integration.broker import place_of
from celery_tw.integration.failover import FailoverPool
from celery_tw.integration.runs.run_headers import mid_of
from celery_tw.integration.runs.runner import runner_of
from celery_tw.runtime.run import State
from celery_tw.stores.redis.runs.claim import Claim
from celery_tw.stores.redis.runs.right import Right
from celery_tw.stores.redis.runs.stored_result import StoredResult
from tests.stock_worker import working
from tests.waiting import wait_until

MakeApp = Callable[..., Celery]
TIMEOUT_S = 10


@pytest.fixture
def stored_by_celery(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The ids of the tasks whose results Celery has stored itself."""
    stored: list[str] = []
    original = RedisBackend.store_result

    def store_result(self: Any, task_id: str, *args: Any, **options: Any) -> Any:
        stored.append(task_id)
        return original(self, task_id, *args, **options)

    monkeypatch.setattr(RedisBackend, "store_result", store_result)
    return stored


def add(self: Any, x: int, y: int) -> Any:
    """Add, and leave a child behind."""
    if y:
        self.apply_async((x + y, 0), countdown=0)
    return {"sum": x + y, "ä": [1.5, None]}


@pytest.mark.parametrize("conf", [{}, {"result_extended": True}, {"result_expires": None}, {"result_expires": 77}])
def test_it_is_what_celery_stores(make_app: MakeApp, redis_client: redis.Redis, stored_by_celery: list[str], conf: dict[str, Any]) -> None:
    app = make_app(**conf)
    guarded = app.task(base=celery_tw.Task, bind=True, shared=False, name="shop.guarded")(add)
    plain = app.task(bind=True, shared=False, name="shop.plain")(add)
    with working(app):
        results = [task.apply_async((1, 2), headers={"stamp": "x"}) for task in (guarded, plain)]
        for result in results:
            assert result.get(timeout=TIMEOUT_S) == {"sum": 3, "ä": [1.5, None]}
            assert result.children[0].get(timeout=TIMEOUT_S)["sum"] == 3
    ours, theirs = ({**json.loads(redis_client.get(f"celery-task-meta-{result.id}"))} for result in results)
    assert list(ours) == list(theirs)
    assert {type(value) for value in ours.values()} == {type(value) for value in theirs.values()}
    assert ours["status"] == "SUCCESS"
    ours_s, theirs_s = (redis_client.ttl(f"celery-task-meta-{result.id}") for result in results)
    assert abs(ours_s - theirs_s) <= TIMEOUT_S
    assert results[0].id not in stored_by_celery
    assert results[1].id in stored_by_celery


def test_a_process_that_has_lost_its_run_stores_nothing(make_app: MakeApp, redis_client: redis.Redis, stored_by_celery: list[str]) -> None:
    app = make_app()
    seen: list[bytes | None] = []

    @app.task(base=celery_tw.Task, bind=True, shared=False)
    def paused_at_first(self: Any) -> str:
        seen.append(redis_client.get(f"celery-task-meta-{self.request.id}"))
        if len(seen) == 1:
            runner_of(app).runs.finish(Right.of_owner(""), "lost", mid=mid_of(self.request), task_id=self.request.id)
            return "of the late one"
        return "of the next one"

    with working(app):
        assert paused_at_first.delay().get(timeout=TIMEOUT_S) == "of the next one"
    assert seen == [None, None]
    assert stored_by_celery == []


@pytest.mark.parametrize("separators", [(", ", ": "), (",", ":")])
def test_a_success_that_is_there_stays(make_app: MakeApp, redis_client: redis.Redis, separators: tuple[str, str]) -> None:
    app = make_app()
    redis_client.set("celery-task-meta-known", json.dumps({"status": "SUCCESS", "result": "first"}, separators=separators))
    runs = runner_of(app).runs
    claim = Claim(mid="m", owner="here:1:x", task="shop.any", task_id="known")
    token = runs.acquire(claim).token
    result = StoredResult(b"celery-task-meta-known", '{"status": "SUCCESS", "result": "second"}', 60)

    assert runs.conclude(token, result, mid="m", task_id="known")

    assert json.loads(redis_client.get("celery-task-meta-known"))["result"] == "first"
    assert runs.acquire(claim).verdict == "done"


def test_what_has_no_json_form_fails_as_ever(make_app: MakeApp) -> None:
    app = make_app()

    @app.task(base=celery_tw.Task, shared=False)
    def returns_an_object() -> object:
        return object()

    with working(app), pytest.raises(EncodeError):
        returns_an_object.delay().get(timeout=TIMEOUT_S)


@pytest.mark.parametrize(
    "conf",
    [{"result_serializer": "pickle", "accept_content": ["json", "pickle"]}, {"result_backend": "elsewhere"}, {"result_backend": "rpc://"}],
)
def test_results_that_are_not_at_hand_are_left_to_celery(
    make_app: MakeApp, redis_url: str, stored_by_celery: list[str], conf: dict[str, Any]
) -> None:
    with EmbeddedServer.start() as elsewhere:
        if conf.get("result_backend") == "elsewhere":
            conf = {"result_backend": elsewhere.url}
        app = make_app(**conf)

        @app.task(base=celery_tw.Task, shared=False)
        def twice(x: int) -> int:
            return 2 * x

        with working(app):
            result = twice.delay(4)
            assert result.get(timeout=TIMEOUT_S) == 8
        assert (result.id in stored_by_celery) is (conf.get("result_backend") != "rpc://")


def test_the_parts_of_a_group_are_at_hand_as_well(make_app: MakeApp, stored_by_celery: list[str]) -> None:
    app = make_app()

    @app.task(base=celery_tw.Task, shared=False)
    def twice(x: int) -> int:
        return 2 * x

    with working(app):
        assert group([twice.s(1), twice.s(2)], app=app).apply_async().get(timeout=TIMEOUT_S) == [2, 4]
    assert stored_by_celery == []


def test_a_task_that_sends_a_message_when_it_has_ended_leaves_its_result_to_celery(make_app: MakeApp, stored_by_celery: list[str]) -> None:
    app = make_app()

    @app.task(base=celery_tw.Task, shared=False)
    def twice(x: int) -> int:
        return 2 * x

    with working(app):
        result = chain(twice.s(1), twice.s(), app=app).apply_async()
        assert result.get(timeout=TIMEOUT_S) == 4
    assert stored_by_celery == [result.parent.id]


def test_a_handler_of_the_task_comes_before_the_end_of_its_run(make_app: MakeApp, stored_by_celery: list[str]) -> None:
    app, seen = make_app(), []

    class Handled(celery_tw.Task):
        abstract = True

        def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
            seen.append(runner_of(app).runs.is_on_record(mid_of(self.request)))

    @app.task(base=Handled, shared=False, lock="k")
    def handled() -> int:
        return 1

    with working(app):
        result = handled.delay()
        assert result.get(timeout=TIMEOUT_S) == 1
        wait_until(lambda: seen)
    assert (seen, stored_by_celery) == ([True], [result.id])


def test_what_hears_of_the_success_finds_the_request_as_it_came(make_app: MakeApp) -> None:
    app, heard = make_app(), []

    @app.task(base=celery_tw.Task, shared=False)
    def one() -> int:
        return 1

    def hear(sender: Any, **_: Any) -> None:
        heard.append(sender.request.ignore_result)

    signals.task_success.connect(hear, sender=one)
    with working(app):
        one.apply_async(ignore_result=False)
        wait_until(lambda: heard)
    assert heard == [False]


def test_a_task_that_ignores_its_result_stores_none_however_it_is_sent(make_app: MakeApp, redis_client: redis.Redis) -> None:
    app = make_app()

    @app.task(base=celery_tw.Task, shared=False, name="shop.ignoring", ignore_result=True)
    def ignoring() -> int:
        return 1

    with working(app):
        ids = [ignoring.delay().id, app.send_task("shop.ignoring").id]
        wait_until(lambda: all(runner_of(app).runs.has_ended(task_id) for task_id in ids) or not redis_client.llen("celery"))
        wait_until(lambda: not redis_client.exists("unacked"))
    assert not any(redis_client.exists(f"celery-task-meta-{task_id}") for task_id in ids)


def test_a_run_that_was_lost_before_its_body_returned_is_another_process_s(make_app: MakeApp) -> None:
    app, ran = make_app(), []

    @app.task(base=celery_tw.Task, bind=True, shared=False)
    def lost_at_first(self: Any) -> int:
        ran.append(self.request.id)
        if len(ran) == 1:
            runner_of(app).runs.finish(Right.of_owner(""), "lost", mid=mid_of(self.request), task_id=self.request.id)
            self.request.tw_run.state = State.LOST
        return len(ran)

    with working(app):
        assert lost_at_first.delay().get(timeout=TIMEOUT_S) == 2


def test_results_are_not_at_hand_where_the_server_may_be_another_at_the_next_connection(redis_client: redis.Redis) -> None:
    pool = redis_client.connection_pool
    assert place_of(pool) is not None
    assert place_of(FailoverPool([pool, pool])) is None
