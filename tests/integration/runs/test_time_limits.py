"""A hard time limit, a lost process, a revocation, as the worker's main process hears of them: whose run they end, and whose not."""

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from billiard.einfo import ExceptionInfo
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery import Celery, signals
from celery.worker import state as worker_state

import celery_tw
from celery_tw.integration.runs.run_request import RunRequest
from celery_tw.integration.runs.runner import runner_of
from celery_tw.runtime.lock import lock
from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.redis.runs.claim import Claim
from celery_tw.stores.redis.runs.right import Right
from celery_tw.stores.redis.runs.runs import Runs

KEYS = Keys("shop")
LOCK = KEYS.guard("lock", "k")
PID = 4_000_000
OURS = f"{socket.gethostname()}:{PID}:"


class Scene:
    """A task that the main process of a worker has given to the pool process *PID*, and what it was heard to say of it since."""

    def __init__(self, app: Celery) -> None:
        @app.task(base=celery_tw.Task, name="shop.hang", shared=False, lock="k")
        def hang() -> None:
            return None

        self.said: list[str] = []
        self.meanwhile: Callable[[], object] = lambda: None
        self.result = hang.delay()
        with app.connection_for_read() as connection, connection.SimpleQueue("celery") as queue:
            message = queue.get(timeout=10)
        self.request = RunRequest(
            message,
            app=app,
            task=hang,
            hostname="worker@here",
            on_ack=self.ack,
            on_reject=lambda *_: self.said.append("reject"),
        )
        worker_state.task_reserved(self.request)
        self.request.on_accepted(PID, 0.0)

    def ack(self, *_: Any) -> None:
        self.said.append("ack")
        self.meanwhile()

    @property
    def runs(self) -> Runs:
        return runner_of(self.request.app).runs

    def acquire(self, owner: str) -> str:
        claim = Claim(mid=self.request.mid, owner=owner, task="shop.hang", task_id=self.request.id, guards=[lock("k")])
        return self.runs.acquire(claim).token

    def lose(self) -> None:
        assert self.runs.finish(Right.of_owner(OURS), "lost", mid=self.request.mid, task_id=self.request.id, guards=[lock("k")])[0]

    def tell(self, how: str) -> None:
        """Let the request hear of the time limit, by one or both of its ways."""
        for way in how.split(", "):
            if way == "on_timeout":
                self.request.on_timeout(False, 1)
            else:
                self.fail(TimeLimitExceeded(1))

    def fail(self, error: Exception) -> None:
        """Let the request hear that the task has come to *error*."""
        try:
            raise error
        except type(error):
            self.request.on_failure(ExceptionInfo())

    def begin_elsewhere_once_it_is_lost(self) -> list[str]:
        """Let another process begin the run as soon as it is set free; return the list that its token comes into."""
        finish, tokens = self.runs.finish, list[str]()

        def finish_and_begin(right: Right, verb: str, **run: Any) -> tuple[bool, int]:
            answer = finish(right, verb, **run)
            if verb == "lost":
                tokens.append(self.acquire("elsewhere:1:b"))
            return answer

        self.runs.finish = finish_and_begin  # type: ignore[method-assign]
        return tokens

    def revoke(self) -> None:
        """Let the request hear that its task is revoked, by a process that was given it or not."""
        self.request._announce_revoked("revoked", False, None, False)


@pytest.fixture
def scene(make_app: Callable[..., Celery], request: pytest.FixtureRequest) -> Iterator[Scene]:
    """A scene, with the settings that a test asks for."""
    scene = Scene(make_app(**getattr(request, "param", {})))

    def failed(**_: Any) -> None:
        scene.said.append("failure")

    signals.task_failure.connect(failed)
    yield scene
    signals.task_failure.disconnect(failed)
    worker_state.task_ready(scene.request)


WAYS = pytest.mark.parametrize("how", ["on_failure, on_timeout", "on_timeout, on_failure", "on_timeout"])


@WAYS
def test_a_time_limit_leaves_alone_what_another_process_has_by_now(scene: Scene, redis_client: redis.Redis, how: str) -> None:
    scene.acquire(OURS + "a")
    scene.lose()
    token = scene.acquire("elsewhere:1:b")

    scene.tell(how)

    assert scene.runs.holds(scene.request.mid, token)
    assert redis_client.get(LOCK) == scene.request.mid.encode()
    assert (scene.said, scene.result.state) == ([], "PENDING")
    assert scene.request not in worker_state.reserved_requests, "the worker goes on"


def test_what_another_process_has_and_ends_between_the_two_is_left_alone_as_well(scene: Scene) -> None:
    scene.acquire(OURS + "a")
    scene.lose()
    token = scene.acquire("elsewhere:1:b")

    scene.tell("on_failure")
    scene.runs.finish(Right.of_token(token), "done", mid=scene.request.mid, task_id=scene.request.id, guards=[lock("k")])
    scene.tell("on_timeout")

    assert (scene.said, scene.result.state) == ([], "PENDING")


@WAYS
@pytest.mark.parametrize("begun", ["running", "lost", "never"])
def test_a_time_limit_fails_a_task_that_no_other_process_has(scene: Scene, redis_client: redis.Redis, how: str, begun: str) -> None:
    if begun != "never":
        scene.acquire(OURS + "a")
    if begun == "lost":
        scene.lose()

    scene.tell(how)

    assert not redis_client.exists(KEYS.run(scene.request.mid), LOCK)
    assert scene.acquire("elsewhere:1:b") == "", "a late copy finds that it is dealt with"
    assert scene.result.state == "FAILURE"
    assert "ack" in scene.said


def test_a_run_that_another_process_begins_as_its_failure_is_stored_is_not_ended(scene: Scene) -> None:
    scene.acquire(OURS + "a")
    scene.lose()
    tokens: list[str] = []
    scene.meanwhile = lambda: tokens.append(scene.acquire("elsewhere:1:b"))

    scene.tell("on_timeout")

    (token,) = tokens
    assert scene.runs.holds(scene.request.mid, token)


@pytest.mark.parametrize("scene", [{"tw_max_reassignments": 0}], indirect=True)
def test_a_task_that_has_lost_its_process_too_often_fails(scene: Scene) -> None:
    scene.acquire(OURS + "a")

    scene.fail(WorkerLostError("gone"))

    assert scene.acquire("elsewhere:1:b") == "", "a late copy finds that it is dealt with"
    assert (scene.said, scene.result.state) == (["failure", "ack"], "FAILURE")


@pytest.mark.parametrize("scene", [{"tw_max_reassignments": 0}], indirect=True)
def test_a_task_that_has_lost_its_process_too_often_does_not_fail_if_another_process_has_it(scene: Scene) -> None:
    scene.acquire(OURS + "a")
    tokens = scene.begin_elsewhere_once_it_is_lost()

    scene.fail(WorkerLostError("gone"))

    assert scene.runs.holds(scene.request.mid, tokens[0])
    assert (scene.said, scene.result.state) == ([], "PENDING")
    assert scene.request not in worker_state.reserved_requests, "the worker goes on"


def test_a_time_limit_of_a_task_that_no_process_was_given_leaves_anothers_run_alone(scene: Scene) -> None:
    scene.request.worker_pid = None
    token = scene.acquire("elsewhere:1:b")

    scene.tell("on_timeout")

    assert scene.runs.holds(scene.request.mid, token)


@pytest.mark.parametrize("given", [True, False])
def test_the_revocation_of_a_copy_leaves_alone_what_another_process_has(scene: Scene, redis_client: redis.Redis, given: bool) -> None:
    if not given:
        scene.request.worker_pid = None
    token = scene.acquire("elsewhere:1:b")

    scene.revoke()

    assert scene.runs.holds(scene.request.mid, token)
    assert redis_client.get(LOCK) == scene.request.mid.encode()


@pytest.mark.parametrize("begun", ["running", "lost", "never"])
def test_a_revocation_ends_a_run_that_no_other_process_has(scene: Scene, redis_client: redis.Redis, begun: str) -> None:
    if begun != "never":
        scene.acquire(OURS + "a")
    if begun == "lost":
        scene.lose()

    scene.revoke()

    assert not redis_client.exists(KEYS.run(scene.request.mid), LOCK)
    assert scene.acquire("elsewhere:1:b") == "", "a late copy finds that it is dealt with"
