"""Results that are stored as the run ends, in one step: they are what Celery would have stored, and nobody else's."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from celery import Celery, chain, group
from celery.backends.redis import RedisBackend
from kombu.exceptions import EncodeError

import celery_tw
from celery_tw.embedded import EmbeddedServer
from celery_tw.integration.runs.run_headers import mid_of
from celery_tw.integration.runs.runner import runner_of
from celery_tw.stores.redis.runs.claim import Claim
from celery_tw.stores.redis.runs.right import Right
from celery_tw.stores.redis.runs.stored_result import StoredResult
from tests.stock_worker import working

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


def test_a_success_that_is_there_stays(make_app: MakeApp, redis_client: redis.Redis) -> None:
    app = make_app()
    app.backend.store_result("known", "first", "SUCCESS")
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
