"""Late answers: what nobody waits for is read all the same, in a process that asks nothing more."""

import os
from collections.abc import Callable

import pytest
import redis
from celery import Celery, signals

from celery_tw import Task
from celery_tw.integration.runs.runner import runner_of, this_process
from celery_tw.runtime.late_answers import LateAnswers
from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.redis.own_connections import OwnConnections
from tests.stock_worker import working
from tests.waiting import wait_until

TIMEOUT_S = 10


def test_answers_are_looked_for_after_each_time_that_one_is_expected() -> None:
    looks: list[str] = []
    answers = LateAnswers(lambda: looks.append("look"))
    answers.expect()
    wait_until(lambda: len(looks) == 1)
    answers.expect()
    wait_until(lambda: len(looks) == 2)


def test_a_look_that_fails_does_not_end_the_looking(caplog: pytest.LogCaptureFixture) -> None:
    looks: list[str] = []

    def look() -> None:
        looks.append("look")
        raise OSError("away")

    answers = LateAnswers(look)
    for number in (1, 2):
        answers.expect()
        wait_until(lambda: len(looks) == number)  # noqa: B023 - it is waited for here
    assert "late answers were not read" in caplog.text


@pytest.mark.parametrize(("of_the_parent", "heard"), [(False, [b"a"]), (True, [])])
def test_a_process_that_ends_hears_its_own_last_answer(
    make_app: Callable[..., Celery], redis_client: redis.Redis, of_the_parent: bool, heard: list[bytes]
) -> None:
    runner = runner_of(make_app())
    runner.runs.own = OwnConnections(redis_client)
    runner.process = "host:1" if of_the_parent else this_process()
    answers: list[bytes] = []
    runner.runs.own.post(redis_client.script_load("return ARGV[1]"), 0, "a", heed=answers.append)

    signals.worker_process_shutdown.send(sender="worker", pid=os.getpid(), exitcode=0)

    assert answers == heard


def test_a_run_whose_end_the_server_did_not_know_is_ended_though_its_worker_has_nothing_more_to_do(
    make_app: Callable[..., Celery], redis_client: redis.Redis
) -> None:
    app, keys = make_app(), Keys("shop")

    @app.task(base=Task, shared=False, lock="k")
    def forgetting(forget: bool) -> bool:
        if forget:
            redis_client.script_flush()
        return forget

    with working(app):
        assert forgetting.delay(False).get(timeout=TIMEOUT_S) is False
        assert forgetting.delay(True).get(timeout=TIMEOUT_S) is True
        wait_until(lambda: not redis_client.exists(keys.running, keys.guard("lock", "k")), message="the run to be ended")
