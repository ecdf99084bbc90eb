"""Cancelling and revoking from a client: what is taken off the timetable, who hears of it, and what Celery does besides."""

import logging
import pickle
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from celery import Celery, chord, group
from celery.app.control import Control
from celery.exceptions import TaskRevokedError
from kombu import serialization

from celery_tw import TimeWheel, once
from celery_tw.clock import SystemClock
from celery_tw.integration.cancellation import cancelling
from celery_tw.integration.cancellation.cancelling import WaitingTask
from celery_tw.integration.cancellation.revoking import Asking
from celery_tw.stores.redis.keys import Keys

HOUR = 3600


@pytest.fixture
def shop(make_app: Callable[..., Celery]) -> Celery:
    """An app whose tasks with an ETA wait in the timetable, whether or not anyone leads."""
    app = make_app("shop", tw_defer_eta="always", result_chord_join_timeout=3)
    TimeWheel(app)

    @app.task(name="shop.add", shared=False)
    def add(left: int, right: int = 0) -> int:
        return left + right

    @app.task(name="shop.total", shared=False)
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    return app


@pytest.fixture
def wheel(shop: Celery) -> TimeWheel:
    return TimeWheel(shop)


@pytest.fixture
def add(shop: Celery) -> Any:
    return shop.tasks["shop.add"]


@pytest.fixture
def broadcasts(shop: Celery, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """The control commands that go out to the workers, with their arguments."""
    heard: list[tuple[str, dict[str, Any]]] = []
    send = Control.broadcast

    def listening(self: Any, command: str, arguments: dict[str, Any], *args: Any, **options: Any) -> Any:
        heard.append((command, arguments))
        return send(self, command, arguments, *args, **options)

    monkeypatch.setattr(Control, "broadcast", listening)
    return heard


def waiting(wheel: TimeWheel) -> int:
    return wheel.status().waiting


def test_cancelling_a_waiting_task_says_what_it_found_and_did(wheel: TimeWheel, add: Any, broadcasts: list, revoked: list) -> None:
    due = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    result = add.apply_async((1,), eta=due)

    cancelled = wheel.cancel(result.id)

    assert cancelled.waiting == (WaitingTask(task_id=result.id, task="shop.add", due=due),)
    assert (cancelled.task_id, cancelled.found, cancelled.revoked) == (result.id, True, False)
    assert (waiting(wheel), broadcasts, revoked) == (0, [], [result.id])


@pytest.mark.parametrize("task_id", [None, 5, ""])
def test_what_is_no_task_id_is_refused_before_anybody_is_asked(wheel: TimeWheel, broadcasts: list, task_id: Any) -> None:
    with pytest.raises(ValueError, match=f"a task id is text, not {task_id!r}"):
        wheel.cancel(task_id)
    assert broadcasts == []


def test_the_result_of_a_cancelled_task_is_revoked(wheel: TimeWheel, add: Any) -> None:
    result = add.apply_async((1,), countdown=HOUR)

    wheel.cancel(result.id)

    with pytest.raises(TaskRevokedError):
        result.get(timeout=5)


def test_what_does_not_wait_is_revoked_by_the_workers(wheel: TimeWheel, broadcasts: list) -> None:
    cancelled = wheel.cancel("on its way")

    assert (cancelled.waiting, cancelled.found, cancelled.revoked) == ((), False, True)
    assert [(command, arguments["task_id"]) for command, arguments in broadcasts] == [("revoke", "on its way")]


def test_a_task_sent_with_the_id_of_a_cancelled_one_waits(wheel: TimeWheel, add: Any, redis_client: redis.Redis) -> None:
    add.apply_async((1,), countdown=HOUR, task_id="again")
    wheel.cancel("again")

    add.apply_async((2,), countdown=HOUR, task_id="again")

    assert [task.task_id for task in wheel.canceller.waiting("again")] == ["again"]
    assert redis_client.zscore(Keys("shop").cancelled, "again") is None


def test_a_result_that_is_revoked_is_taken_off_and_the_workers_hear_of_it(wheel: TimeWheel, add: Any, broadcasts: list) -> None:
    result = add.apply_async((1,), countdown=HOUR)

    result.revoke(terminate=True)

    assert (waiting(wheel), result.state) == (0, "REVOKED")
    ((command, arguments),) = broadcasts
    assert (command, arguments["task_id"], arguments["terminate"]) == ("revoke", result.id, True)


def test_a_group_that_is_revoked_is_taken_off_whole(wheel: TimeWheel, add: Any) -> None:
    other = add.apply_async((1,), countdown=HOUR)
    result = group(add.s(number) for number in range(7)).apply_async(countdown=HOUR)
    assert waiting(wheel) == 8

    result.revoke()

    assert waiting(wheel) == 1
    assert {each.state for each in result.results} == {"REVOKED"}
    assert other.state == "PENDING"


@pytest.mark.parametrize("kind", [list, tuple])
def test_many_ids_are_revoked_in_one_call(shop: Celery, wheel: TimeWheel, add: Any, kind: type, broadcasts: list) -> None:
    ids = [add.apply_async((number,), countdown=HOUR).id for number in range(250)]

    shop.control.revoke(kind(ids[:240]))

    assert waiting(wheel) == 10
    assert len(broadcasts) == 1


@pytest.mark.parametrize("verb", ["revoke", "terminate"])
def test_each_of_the_control_verbs_reaches_the_timetable(shop: Celery, wheel: TimeWheel, add: Any, verb: str) -> None:
    result = add.apply_async((1,), countdown=HOUR)

    getattr(shop.control, verb)(result.id)

    assert waiting(wheel) == 0


def test_what_the_command_line_broadcasts_reaches_the_timetable(shop: Celery, wheel: TimeWheel, add: Any) -> None:
    first, second = (add.apply_async((1,), countdown=HOUR) for _ in range(2))

    shop.control.broadcast("revoke", arguments={"task_id": [first.id]}, reply=True, timeout=0.01)
    shop.control.broadcast("terminate", arguments={"signal": "KILL", "task_id": [second.id]}, reply=True, timeout=0.01)

    assert waiting(wheel) == 0


def test_other_commands_go_out_unchanged(shop: Celery, broadcasts: list) -> None:
    shop.control.rate_limit("shop.add", "1/s")

    assert [(command, "tw_cancelled" in arguments) for command, arguments in broadcasts] == [("rate_limit", False)]


def stamped(task: Any, **stamps: Any) -> Any:
    signature = task.si(1)
    signature.stamp(**{"stamped_headers": list(stamps), **stamps})
    return signature.apply_async(countdown=HOUR)


@pytest.mark.parametrize("headers", [{"customer": "c7"}, {"customer": ["c7", "c8"]}, {"other": "x", "customer": ("c7",)}, ["customer=c7"]])
def test_tasks_are_found_by_their_stamped_headers(shop: Celery, wheel: TimeWheel, add: Any, headers: Any) -> None:
    one, listed, other = stamped(add, customer="c7"), stamped(add, customer=["c7", "c9"]), stamped(add, customer="c6")
    add.apply_async(("customer c7",), countdown=HOUR)

    shop.control.broadcast("revoke_by_stamped_headers", arguments={"headers": headers})

    assert [result.state for result in (one, listed, other)] == ["REVOKED", "REVOKED", "PENDING"]
    assert waiting(wheel) == 2


def test_a_result_revokes_what_bears_a_stamp(wheel: TimeWheel, add: Any) -> None:
    results = [stamped(add, batch=f"b{number % 3}") for number in range(12)]

    results[0].revoke_by_stamped_headers({"batch": ["b1", "b2"]})

    assert waiting(wheel) == 4


def test_a_search_goes_over_pages_and_ends_at_its_bound(
    shop: Celery, wheel: TimeWheel, add: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(1100):
        add.apply_async((number,), countdown=HOUR)
    last = stamped(add, customer="c7")
    add.apply_async((1,), countdown=2 * HOUR)

    shop.control.revoke_by_stamped_headers({"customer": "c7"})
    assert last.state == "REVOKED"

    late = stamped(add, customer="c8")
    monkeypatch.setattr(cancelling, "SEARCHED_AT_MOST", 900)
    shop.control.revoke_by_stamped_headers({"customer": "c8"})
    assert late.state == "PENDING"
    assert "only the next 1000 of the tasks that wait were searched" in caplog.text


def test_a_one_time_entry_is_cancelled_by_the_id_of_its_fire(shop: Celery, wheel: TimeWheel, add: Any) -> None:
    at = datetime.now(UTC) + timedelta(days=1)
    for number in range(3):
        wheel.schedule(f"later-{number}", add.s(number), once(at))
    entry = wheel.entry("later-1")
    fire_id = wheel._parts.fire_ids.fire_id(entry.entry_id, int(at.timestamp() * 1000))

    cancelled = wheel.cancel(fire_id)

    assert [(task.task_id, task.entry, task.task) for task in cancelled.waiting] == [(fire_id, "later-1", "shop.add")]
    assert sorted(each.name for each in wheel.entries().entries) == ["later-0", "later-2"]
    assert shop.AsyncResult(fire_id).state == "REVOKED"
    assert not wheel.cancel(str(uuid.uuid5(uuid.NAMESPACE_URL, "nobody's"))).found


def test_a_chord_whose_part_is_cancelled_fails_instead_of_waiting_for_ever(shop: Celery, wheel: TimeWheel, add: Any) -> None:
    parts = [add.s(number).set(countdown=HOUR) for number in (1, 2)]
    result = chord(parts, shop.tasks["shop.total"].s()).apply_async()
    assert waiting(wheel) == 2

    for part in result.parent.results:
        wheel.cancel(part.id)

    with pytest.raises(Exception, match="revoked"):
        result.get(timeout=5)


def test_what_has_been_said_of_a_result_is_kept_as_celery_keeps_it(shop: Celery, wheel: TimeWheel, add: Any) -> None:
    ignored = add.apply_async((1,), countdown=HOUR, ignore_result=True)
    compressed = add.apply_async((list(range(500)),), countdown=HOUR, compression="zlib")

    wheel.cancel(ignored.id)
    wheel.cancel(compressed.id)

    assert (shop.AsyncResult(ignored.id).state, compressed.state) == ("PENDING", "REVOKED")


def test_a_message_that_this_process_may_not_read_is_cancelled_all_the_same(
    shop: Celery, wheel: TimeWheel, add: Any, caplog: pytest.LogCaptureFixture
) -> None:
    result = add.apply_async((1,), countdown=HOUR, serializer="pickle")

    cancelled = wheel.cancel(result.id)

    assert (cancelled.found, waiting(wheel), result.state) == (True, 0, "PENDING")
    assert f"task {result.id} was cancelled, but its result could not be set to REVOKED" in caplog.text
    assert "pickle" in serialization.registry.name_to_type


def test_a_backend_that_fails_is_tried_once_for_all_tasks_of_a_call(
    shop: Celery, wheel: TimeWheel, add: Any, redis_client: redis.Redis, revoked: list, caplog: pytest.LogCaptureFixture
) -> None:
    results = [add.apply_async((number,), countdown=HOUR) for number in range(3)]
    redis_client.hset(f"celery-task-meta-{results[0].id}", "not", "a result")

    shop.control.revoke([result.id for result in results])

    assert waiting(wheel) == 0
    assert revoked == [result.id for result in results]
    assert [result.id in caplog.text for result in results] == [True, True, True]
    assert results[2].state == "PENDING"


def test_without_redis_the_workers_are_asked_and_the_log_says_so(
    make_app: Callable[..., Celery], caplog: pytest.LogCaptureFixture, broadcasts: list
) -> None:
    app = make_app("elsewhere", broker_url="memory://", result_backend="cache+memory://")
    TimeWheel(app)

    app.AsyncResult("a").revoke()

    assert [(command, arguments["task_id"]) for command, arguments in broadcasts] == [("revoke", "a")]
    assert "tw_cancelled" not in broadcasts[0][1]
    assert "revoke: the timetable was not asked, only the workers are: " in caplog.text


def test_a_timetable_that_does_not_answer_keeps_no_revoke_from_the_workers(
    shop: Celery, wheel: TimeWheel, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture, broadcasts: list
) -> None:
    redis_client.set(Keys("shop").by_task, "not a hash")

    shop.control.revoke("a")

    assert [command for command, _ in broadcasts] == ["revoke"]
    assert [record.levelno for record in caplog.records if "the timetable was not asked" in record.message] == [logging.WARNING]


def test_a_worker_goes_on_asking_a_redis_that_answers_with_an_error(
    shop: Celery, wheel: TimeWheel, add: Any, redis_client: redis.Redis
) -> None:
    result, asking = add.apply_async((1,), countdown=HOUR), Asking()
    listed = redis_client.hgetall(Keys("shop").by_task)
    asking._breaker.fail(SystemClock().boot_ms() - 60_000)
    redis_client.set(Keys("shop").by_task, "not a hash")

    asking.ask(shop, "revoke", {"task_id": [result.id]})
    redis_client.delete(Keys("shop").by_task)
    redis_client.hset(Keys("shop").by_task, mapping=listed)
    asking.ask(shop, "revoke", {"task_id": [result.id]})

    assert waiting(wheel) == 0


def test_installing_reads_no_setting_and_a_pickled_app_revokes_as_well(redis_url: str) -> None:
    app = Celery("shop", set_as_current=False)
    TimeWheel(app)
    assert not app.configured

    app.conf.update(broker_url=redis_url)
    again = pickle.loads(pickle.dumps(app))
    TimeWheel(again)

    assert type(again.control) is Control
    again.control.revoke("a")
    assert again.timewheel.canceller.cancelling.client.zscore(Keys("shop").cancelled, "a")
    again.close()


def test_a_control_that_was_there_first_is_wrapped_once(redis_url: str, broadcasts: list) -> None:
    app = Celery("shop", broker=redis_url, set_as_current=False)
    control = app.control
    TimeWheel(app)
    TimeWheel(app)

    assert app.control is control
    control.revoke("a")
    assert broadcasts[0][1]["tw_cancelled"] == "shop"
    assert len(broadcasts) == 1
    app.close()
