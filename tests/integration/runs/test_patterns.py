"""Guards by patterns of task names: which tasks get them, however they come to be, and what cannot be guarded."""

import threading
from collections.abc import Callable
from typing import Any

import celery
import pytest
import redis
from celery import Celery, shared_task
from celery._state import _on_app_finalizers

import celery_tw
from celery_tw import TimeWheel
from celery_tw.errors import ImproperlyConfigured
from celery_tw.integration.runs.guarding import refuse_guards_without_base
from celery_tw.integration.runs.runner import runner_of
from celery_tw.stores.redis.keys import Keys
from tests.stock_worker import working
from tests.waiting import wait_until

MakeApp = Callable[..., Celery]
KEYS = Keys("shop")
TIMEOUT_S = 10
GUARD = {"shop.*": {"once": True}, "shop.import_*": {"lock": "import:{account}"}}


def make_task(app: Celery, name: str, **options: Any) -> Any:
    @app.task(name=name, shared=False, **options)
    def work(account: str) -> str:
        return account

    return work


def is_guarded(task: Any) -> bool:
    return isinstance(task, celery_tw.Task)


@pytest.fixture
def app(make_app: MakeApp) -> Celery:
    return make_app()


def test_a_task_that_matches_runs_as_with_our_base(app: Celery, redis_client: redis.Redis) -> None:
    held: list[bool] = []

    @app.task(name="shop.import_account", shared=False)
    def import_account(account: str) -> str:
        held.append(redis_client.exists(KEYS.guard("lock", f"import:{account}")) == 1)
        return account

    TimeWheel(app, guard=GUARD)
    with working(app):
        assert import_account.delay("a").get(timeout=TIMEOUT_S) == "a"
    assert held == [True]
    assert (import_account.acks_late, import_account.reject_on_worker_lost) == (True, True)
    assert import_account.guarding.guards(["a"], {})[0].key == "import:a"


def test_a_task_that_does_not_match_stays_what_it_was(app: Celery) -> None:
    TimeWheel(app, guard=GUARD)
    other = make_task(app, "depot.work")

    assert other.name == "depot.work"
    assert not is_guarded(other)
    assert not other.acks_late


def bound_before(app: Celery) -> Any:
    task = make_task(app, "shop.import_x")
    assert task.name in app.tasks
    TimeWheel(app, guard=GUARD)
    return app.tasks["shop.import_x"]


def declared_before(app: Celery) -> Any:
    make_task(app, "shop.import_x")
    TimeWheel(app, guard=GUARD)
    return app.tasks["shop.import_x"]


def declared_after(app: Celery) -> Any:
    TimeWheel(app, guard=GUARD)
    make_task(app, "shop.import_x")
    return app.tasks["shop.import_x"]


def declared_when_ready(app: Celery) -> Any:
    TimeWheel(app, guard=GUARD)
    app.finalize()
    make_task(app, "shop.import_x")
    return app.tasks["shop.import_x"]


def registered(app: Celery) -> Any:
    TimeWheel(app, guard=GUARD)

    class Import(celery.Task):
        name = "shop.import_x"

        def run(self, account: str) -> str:
            return account

    return app.register_task(Import())


def shared(app: Celery) -> Any:
    TimeWheel(app, guard=GUARD)
    before = set(_on_app_finalizers)
    try:

        @shared_task(name="shop.import_x")
        def work(account: str) -> str:
            return account

        return app.tasks["shop.import_x"]
    finally:
        _on_app_finalizers.intersection_update(before)


def annotated(app: Celery) -> Any:
    app.conf.task_annotations = {"shop.import_x": {"rate_limit": "7/s"}, "*": {"priority": 3}}
    task = declared_after(app)
    assert (task.rate_limit, task.priority) == ("7/s", 3)
    return task


WAYS = [bound_before, declared_before, declared_after, declared_when_ready, registered, shared, annotated]


@pytest.mark.parametrize("make", WAYS, ids=lambda make: make.__name__)
def test_a_task_is_guarded_however_it_comes_to_be(app: Celery, make: Callable[[Celery], Any]) -> None:
    task = make(app)

    assert is_guarded(task)
    assert task.guarding.templates["lock"].text == "import:{account}"
    with working(app):
        assert task.delay("a").get(timeout=TIMEOUT_S) == "a"
        wait_until(lambda: not redis_of(app).exists(KEYS.guard("lock", "import:a")), message="the run to end")


def redis_of(app: Celery) -> Any:
    return runner_of(app).runs.client


def test_a_pydantic_task_is_guarded_with_the_arguments_that_were_dumped(app: Celery) -> None:
    pydantic = pytest.importorskip("pydantic", reason="pydantic is not installed here")

    class Account(pydantic.BaseModel):
        number: int

    TimeWheel(app, guard={"shop.*": {"lock": "import:{account[number]}"}})

    def import_account(account: Any) -> int:
        return int(account.number)

    import_account.__annotations__["account"] = Account
    task = app.task(name="shop.import_account", shared=False, pydantic=True)(import_account)

    with working(app):
        assert task.delay({"number": 7}).get(timeout=TIMEOUT_S) == 7
    assert task.guarding.guards([{"number": 7}], {})[0].key == "import:7"


def test_a_later_pattern_overrides_an_earlier_one_and_the_decorator_both(app: Celery) -> None:
    TimeWheel(app, guard={"shop.*": {"lock": "a", "max_concurrency": 3}, "shop.x*": {"lock": "b"}})
    by_pattern = make_task(app, "shop.xa")
    by_hand = make_task(app, "shop.xb", lock="c")
    app.finalize()

    assert (by_pattern.lock, by_pattern.max_concurrency) == ("b", 3)
    assert (by_hand.lock, by_hand.max_concurrency) == ("c", 3)
    refuse_guards_without_base(app)


def test_a_task_with_our_base_gets_what_a_pattern_adds(app: Celery) -> None:
    TimeWheel(app, guard={"shop.*": {"max_concurrency": 3}})
    task = make_task(app, "shop.x", base=celery_tw.LongTask, lock="k")
    app.finalize()

    assert isinstance(task, celery_tw.LongTask)
    assert (task.lock, task.max_concurrency) == ("k", 3)


def test_a_class_with_a_call_of_its_own_keeps_it_with_the_guards_held(app: Celery, redis_client: redis.Redis) -> None:
    told: list[Any] = []

    class InContext(celery.Task):
        abstract = True

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            told.append(redis_client.exists(KEYS.guard("lock", "import:a")))
            result = super().__call__(*args, **kwargs)
            told.append("after")
            return result

    @app.task(name="shop.import_x", base=InContext, bind=True, shared=False)
    def work(self: Any, account: str) -> str:
        told.append(self.request.id)
        return account

    TimeWheel(app, guard=GUARD)
    with working(app):
        result = work.delay("a")
        assert result.get(timeout=TIMEOUT_S) == "a"
    assert told == [1, result.id, "after"]


def test_a_task_that_is_guarded_by_a_pattern_may_call_itself(app: Celery) -> None:
    TimeWheel(app, guard=GUARD)

    @app.task(name="shop.import_x", bind=True, shared=False)
    def work(self: Any, account: str, deep: bool = True) -> Any:
        return [account, *(work("b", deep=False) if deep else ())]

    with working(app):
        assert work.delay("a").get(timeout=TIMEOUT_S) == ["a", "b"]


def test_a_retry_of_a_task_that_is_guarded_by_a_pattern_runs(app: Celery) -> None:
    TimeWheel(app, guard={"shop.*": {"once": True}})

    @app.task(name="shop.import_x", shared=False, autoretry_for=(ValueError,), max_retries=2, default_retry_delay=0)
    def work(account: str) -> int:
        if celery.current_task.request.retries == 0:
            raise ValueError(account)
        return int(celery.current_task.request.retries)

    with working(app):
        assert work.delay("a").get(timeout=TIMEOUT_S) == 1


def test_a_unique_task_by_pattern_is_sent_once(app: Celery) -> None:
    TimeWheel(app, guard={"shop.*": {"unique": True}})
    task = make_task(app, "shop.x")

    assert task.delay("a").id == task.delay("a").id


def test_celerys_own_tasks_are_left_out_of_a_pattern_for_all(app: Celery) -> None:
    TimeWheel(app, guard={"*": {"once": True}})
    make_task(app, "shop.x")

    guarded = {name for name, task in app.tasks.items() if is_guarded(task)}
    assert "shop.x" in guarded
    assert not any(name.startswith("celery.") for name in guarded)


def test_early_acknowledgement_stands_when_the_pattern_says_so(app: Celery) -> None:
    TimeWheel(app, guard={"shop.*": {"acks_late": False}})
    task = make_task(app, "shop.x")
    app.finalize()

    assert (task.acks_late, task.reject_on_worker_lost) == (False, True)


@pytest.mark.parametrize(
    ("guard", "match"),
    [
        ({"shop.*": {"lok": "k"}}, "pattern 'shop.*': there is no option 'lok': did you mean 'lock'?"),
        ({"shop.*": {"once": False}}, "option once: expected True"),
        ({"shop.*": "lock"}, "expected a mapping of options"),
        (["shop.*"], "expected a mapping of patterns"),
        ({"": {}}, "expected a pattern of task names"),
    ],
)
def test_a_wrong_pattern_is_refused_at_once_by_name(guard: Any, match: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=match.replace("*", r"\*").replace("?", r"\?")):
        TimeWheel(Celery("shop", set_as_current=False), guard=guard)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"lock": "import:{acount}"}, "guard, pattern 'shop.*': the task shop.x, option lock: .*'acount'.*expected one of account"),
        ({"lock_busy": "hope"}, "guard, pattern 'shop.*': the task shop.x, option lock_busy: expected one of"),
        ({"max_concurrency": 0}, "guard, pattern 'shop.*': the task shop.x, option max_concurrency: expected a whole number"),
    ],
)
def test_an_option_that_does_not_fit_a_task_is_refused_when_the_app_is_made_ready(app: Celery, options: dict[str, Any], match: str) -> None:
    TimeWheel(app, guard={"shop.*": options})
    make_task(app, "shop.x")

    with pytest.raises(ImproperlyConfigured, match=match):
        app.finalize()


def test_a_request_class_of_its_own_cannot_be_guarded(app: Celery) -> None:
    TimeWheel(app, guard={"shop.*": {}})
    make_task(app, "shop.x", Request="depot.worker:Request")

    with pytest.raises(ImproperlyConfigured, match="the task shop.x has a Request class of its own, 'depot.worker:Request'"):
        app.finalize()


def test_celerys_own_task_cannot_be_guarded(app: Celery) -> None:
    TimeWheel(app, guard={"celery.backend_*": {}})

    with pytest.raises(ImproperlyConfigured, match="celery.backend_cleanup is Celery's own"):
        app.finalize()


def test_patterns_are_given_in_one_place(app: Celery) -> None:
    wheel = TimeWheel(app)
    assert TimeWheel(app, guard=GUARD) is wheel
    assert TimeWheel(app, guard=dict(GUARD)) is wheel
    assert TimeWheel(app) is wheel

    with pytest.raises(ImproperlyConfigured, match="has other patterns already"):
        TimeWheel(app, guard={})


def test_a_worker_says_which_pattern_matches_nothing(app: Celery, caplog: pytest.LogCaptureFixture) -> None:
    TimeWheel(app, guard={"shop.*": {}, "shpo.*": {}})
    make_task(app, "shop.x")

    with working(app):
        assert [record.getMessage() for record in caplog.records if "pattern" in record.getMessage()] == [
            "guard: no task matches the pattern 'shpo.*'"
        ]


def test_two_threads_that_make_a_task_known_guard_it_once(app: Celery) -> None:
    TimeWheel(app, guard=GUARD)
    make_task(app, "shop.x")
    threads = [threading.Thread(target=app.finalize) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert type(app.tasks["shop.x"]).__mro__.count(celery_tw.Task) == 1
