"""What fails for good in a worker becomes one dead letter, with its whole message; what does not, none."""

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
import redis
from celery import Celery, chord
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from celery.worker import state

import celery_tw
from celery_tw import TimeWheel, events
from celery_tw.integration.dlq.burying import burying_of
from celery_tw.integration.dlq.letter_views import DeadLetter, Imported
from celery_tw.stores.redis.keys import Keys
from tests.stock_worker import working
from tests.waiting import wait_until

Dead = Callable[..., list[DeadLetter]]
TIMEOUT_S = 10


class Refused(Exception):
    """An error of the tests' own."""


def test_the_letter_of_a_guarded_task_tells_all_there_is_to_know(app: Celery, dead: Dead) -> None:
    heard: list[dict[str, Any]] = []

    def hear(**facts: Any) -> None:
        heard.append(facts)

    @app.task(base=celery_tw.Task, name="shop.pay", shared=False)
    def pay(account: str, *, items: list[int]) -> None:
        items.clear()
        raise Refused(f"no money on {account}")

    events.task_dead_lettered.connect(hear)
    with working(app):
        result = pay.apply_async(("a1",), {"items": [1, 2]}, queue="celery")
        with pytest.raises(Refused):
            result.get(timeout=TIMEOUT_S)
        (letter,) = dead()
    events.task_dead_lettered.disconnect(hear)

    assert (letter.reason, letter.task, letter.task_id, letter.queue) == ("failed", "shop.pay", result.id, "celery")
    assert (letter.exception.rpartition(".")[2], letter.message, letter.attempts, letter.count) == ("Refused", "no money on a1", 1, 1)
    assert letter.letter_id == letter.mid
    assert letter.worker
    details = TimeWheel(app).dlq.show(letter.letter_id)
    assert (details.args, details.kwargs) == (["a1"], {"items": [1, 2]})
    assert 'raise Refused(f"no money on {account}")' in details.traceback
    assert details.root == result.id
    assert [facts["letter_id"] for facts in heard] == [letter.letter_id]


def test_only_the_last_failure_is_final(app: Celery, dead: Dead) -> None:
    @app.task(base=celery_tw.Task, bind=True, shared=False, max_retries=2)
    def flaky(self: Any) -> None:
        raise self.retry(exc=Refused("again"), countdown=0)

    with working(app):
        with pytest.raises(Refused):
            flaky.delay().get(timeout=TIMEOUT_S)
        (letter,) = dead()
    assert (letter.attempts, letter.message) == (3, "again")


@pytest.mark.parametrize(
    ("error", "reason"),
    [(Refused("no"), "failed"), (SoftTimeLimitExceeded(), "timed_out"), (Reject("not mine", requeue=False), "rejected")],
    ids=["failed", "timed_out", "rejected"],
)
def test_each_way_to_die_has_its_reason(app: Celery, dead: Dead, error: Exception, reason: str) -> None:
    @app.task(base=celery_tw.Task, shared=False)
    def die() -> None:
        raise error

    with working(app):
        die.delay()
        (letter,) = dead()
    assert letter.reason == reason


def test_what_is_not_to_be_kept_is_not(app: Celery, dead: Dead) -> None:
    @app.task(base=celery_tw.Task, shared=False, dlq=False)
    def careless() -> None:
        raise Refused

    @app.task(base=celery_tw.Task, shared=False, throws=(Refused,))
    def expected() -> None:
        raise Refused

    @app.task(shared=False)
    def plain() -> None:
        raise Refused

    @app.task(base=celery_tw.Task, shared=False)
    def ignored() -> None:
        raise Ignore

    @app.task(shared=False, dlq=True)
    def kept() -> None:
        raise Refused("kept")

    with working(app, concurrency=1):
        ignored.delay()
        for task in (careless, expected, plain):
            with pytest.raises(Refused):
                task.delay().get(timeout=TIMEOUT_S)
        kept.delay()
        assert [letter.message for letter in dead()] == ["kept"]


def test_all_tasks_are_kept_if_the_setting_says_so_and_those_that_the_wheel_fired_in_any_case(app: Celery, dead: Dead) -> None:
    @app.task(shared=False, name="shop.plain")
    def plain() -> None:
        raise Refused

    with working(app, concurrency=1):
        plain.delay()
        plain.apply_async(headers={"tw_slot": 1})
        (fired,) = dead()
        app.conf.tw_dlq = "all"
        vars(app).pop("_tw_burying")
        vars(app).pop("_tw_runner")
        plain.delay()
        dead(2)
    assert fired.task == "shop.plain"


def test_off_keeps_nothing_and_the_worker_lives(app: Celery, redis_client: redis.Redis) -> None:
    app.conf.tw_dlq = "off"

    @app.task(base=celery_tw.Task, shared=False)
    def die() -> None:
        raise Refused

    with working(app):
        with pytest.raises(Refused):
            die.delay().get(timeout=TIMEOUT_S)
        publish(app, body="[1]", task=die.name)
        with pytest.raises(Refused):
            die.delay().get(timeout=TIMEOUT_S)
    assert TimeWheel(app).dlq.count() == 0


def publish(
    app: Celery, *, body: Any, task: str, content_type: str = "application/json", content_encoding: str = "utf-8", **headers: Any
) -> None:
    """Send *body* as it is to the app's queue."""
    with app.connection_for_write() as connection:
        connection.Producer().publish(
            body,
            routing_key="celery",
            exchange="",
            content_type=content_type,
            content_encoding=content_encoding,
            headers={"id": "t1", "task": task, "tw_mid": "m1", **headers},
        )


GOOD = json.dumps([[], {}, {}])
REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("unregistered", {"body": GOOD, "task": "shop.nobody_knows"}),
    ("disallowed", {"body": b"x", "content_type": "application/x-python-serialize", "content_encoding": "binary"}),
    ("disallowed", {"body": GOOD, "eta": "soon"}),
    ("undecodable", {"body": "{not json"}),
    ("undecodable", {"body": b"\xff\xfe"}),
    ("malformed", {"body": "[1]"}),
    ("malformed", {"body": "[1, {}, {}]"}),
    ("malformed", {"body": "[[], 2, {}]"}),
    ("malformed", {"body": "[[], {}, 3]"}),
    ("malformed", {"body": "7"}),
    ("malformed", {"body": GOOD, "id": None}),
    ("malformed", {"body": GOOD, "id": ["t1"]}),
    ("malformed", {"body": GOOD, "timelimit": "soon"}),
]


def test_what_the_worker_refuses_is_kept_whole_and_the_worker_goes_on(app: Celery, dead: Dead) -> None:
    @app.task(shared=False, name="shop.add")
    def add(a: int = 0, b: int = 0) -> int:
        return a + b

    with working(app, concurrency=1):
        for number, (_, sent) in enumerate(REFUSED):
            publish(app, **{"task": "shop.add", "tw_mid": f"m{number}", **sent})
        letters = {letter.letter_id: letter for letter in dead(len(REFUSED))}
        assert add.delay(1, 2).get(timeout=TIMEOUT_S) == 3
        wait_until(lambda: not state.reserved_requests, message="nothing to be reserved")

    for number, (reason, sent) in enumerate(REFUSED):
        body, letter = sent["body"], letters[f"m{number}"]
        assert (letter.reason, letter.queue) == (reason, "celery")
        assert TimeWheel(app).dlq.show(letter.letter_id).body == (body if isinstance(body, bytes) else body.encode())


def test_a_long_run_whose_message_a_worker_refuses_has_ended(app: Celery, dead: Dead, redis_client: redis.Redis) -> None:
    runs, keys = burying_of(app).runs, Keys("shop")
    redis_client.hset(keys.run("m1"), mapping={"state": "yielded", "owner": "", "token": "", "envelope": b"{}", "id": "t1"})
    with working(app, concurrency=1):
        publish(app, body=GOOD, task="shop.nobody_knows")
        (letter,) = dead()
        wait_until(lambda: runs.has_ended("m1"), message="the run to be ended")
    assert (letter.reason, redis_client.exists(keys.run("m1"))) == ("unregistered", 0)


LAST = "9999-12-31T23:59:59"


@pytest.mark.parametrize(
    ("zone", "times"),
    [
        ("Europe/Berlin", [{"eta": LAST}, {"expires": LAST}]),
        ("America/New_York", [{"eta": "0001-01-01T00:00:00"}]),
        ("UTC", [{"eta": f"{LAST}-12:00"}]),
    ],
)
def test_times_that_there_are_not_are_kept_and_the_worker_goes_on(
    make_app: Callable[..., Celery], zone: str, times: list[dict[str, str]]
) -> None:
    app = make_app(accept_content=["json"], timezone=zone)
    box = TimeWheel(app).dlq

    @app.task(shared=False, name="shop.add")
    def add(a: int = 0, b: int = 0) -> int:
        return a + b

    with working(app, concurrency=1):
        for number, headers in enumerate(times):
            publish(app, body=GOOD, task="shop.add", id=f"t{number}", tw_mid=f"m{number}", **headers)
        publish(app, body=GOOD, task="shop.add", id="good", expires=f"{LAST}-12:00")
        assert app.AsyncResult("good").get(timeout=TIMEOUT_S) == 0
        wait_until(lambda: box.count() == len(times), message="the letters")
        wait_until(lambda: app.AsyncResult("t0").state == "FAILURE")
    letters = sorted((letter.letter_id, letter.reason) for letter in box.list().letters)
    assert letters == [(f"m{number}", "malformed") for number in range(len(times))]
    assert all("is out of range" in letter.message for letter in box.list().letters)


def test_a_message_of_the_first_protocol_that_spoils_a_worker_is_kept(app: Celery, dead: Dead) -> None:
    @app.task(shared=False, name="shop.add")
    def add(a: int = 0, b: int = 0) -> int:
        return a + b

    with working(app, concurrency=1), app.connection_for_write() as connection:
        old = {"task": "shop.add", "id": "x", "args": [1], "kwargs": {}, "timelimit": 5}
        connection.Producer().publish(old, routing_key="celery", exchange="", serializer="json")
        (letter,) = dead()
        assert add.delay(1, 2).get(timeout=TIMEOUT_S) == 3
        wait_until(lambda: not state.reserved_requests, message="nothing to be reserved")
    assert letter.reason == "malformed"


def test_what_is_no_task_at_all_is_kept_under_what_it_says_and_each_message_counts(app: Celery, dead: Dead) -> None:
    heard: list[str] = []

    def hear(letter_id: str, **_: Any) -> None:
        heard.append(letter_id)

    events.task_dead_lettered.connect(hear)
    with working(app, concurrency=1), app.connection_for_write() as connection:
        for _ in range(2):
            connection.Producer().publish({"hello": 1}, routing_key="celery", exchange="")
        wait_until(lambda: dead()[0].count == 2 and len(heard) == 2, message="both to be counted")
        (letter,) = dead()
    events.task_dead_lettered.disconnect(hear)
    assert letter.letter_id.startswith("h-")
    assert heard == [letter.letter_id] * 2


def test_who_waits_for_a_refused_task_learns_that_it_failed(app: Celery, dead: Dead) -> None:
    @app.task(shared=False, name="shop.add")
    def add() -> None:
        """Do nothing."""

    with working(app, concurrency=1):
        publish(app, body="[1]", task="shop.add")
        dead()
        wait_until(lambda: app.AsyncResult("t1").state == "FAILURE")


def test_a_member_that_nobody_knows_fails_its_chord(app: Celery, dead: Dead) -> None:
    @app.task(shared=False)
    def add(numbers: list[int] | None = None) -> int:
        return 1

    with working(app, concurrency=1):
        result = chord([add.si(), app.signature("shop.nobody_knows", immutable=True)])(add.s())
        with pytest.raises(Exception, match="nobody_knows"):
            result.get(timeout=TIMEOUT_S)
        (letter,) = dead()
    assert TimeWheel(app).dlq.show(letter.letter_id).chord == result.id


def test_a_message_that_comes_back_too_often_is_buried(app: Celery, dead: Dead) -> None:
    app.conf.tw_dlq_max_redeliveries = 2
    ran: list[str] = []

    @app.task(bind=True, shared=False, acks_late=True, name="shop.poison", max_retries=None)
    def poison(self: Any) -> None:
        ran.append(self.request.id)
        raise Reject("the worker is gone", requeue=True)

    with working(app, concurrency=1):
        result = poison.apply_async(headers={"tw_slot": 1})
        (letter,) = dead()
        wait_until(lambda: result.state == "FAILURE")
    assert (letter.reason, letter.attempts, ran) == ("redelivered", 3, [result.id] * 3)


def test_a_message_without_a_mid_that_comes_back_too_often_is_buried(app: Celery, dead: Dead) -> None:
    app.conf.tw_dlq_max_redeliveries = 2
    ran: list[str] = []

    @app.task(bind=True, shared=False, acks_late=True, name="shop.poison", max_retries=None, dlq=True)
    def poison(self: Any) -> None:
        ran.append(self.request.id)
        raise Reject("the worker is gone", requeue=len(ran) < 10)

    with working(app, concurrency=1):
        publish(app, body=GOOD, task="shop.poison", tw_mid=None)
        (letter,) = dead()
        wait_until(lambda: app.AsyncResult("t1").state == "FAILURE")
    assert (letter.reason, letter.mid, ran) == ("redelivered", "t1:0:0", ["t1"] * 3)


def test_without_redis_the_letter_is_logged_and_brought_back_from_the_log(
    app: Celery, dead: Dead, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    @app.task(base=celery_tw.Task, shared=False, name="shop.pay")
    def pay(account: str) -> None:
        raise Refused(account)

    burying = burying_of(app)
    assert burying is not None
    redis_client.set(burying.letters.keys.dlq, "no letters here")
    with working(app), caplog.at_level(logging.CRITICAL, "celery_tw"):
        with pytest.raises(Refused):
            pay.delay("a1").get(timeout=TIMEOUT_S)
        wait_until(lambda: "TW-DEAD-LETTER" in caplog.text)
    redis_client.delete(burying.letters.keys.dlq)
    lines = [f"[2026-01-01 00:00:00: CRITICAL/ForkPoolWorker-1] {record.getMessage()}" for record in caplog.records]

    box = TimeWheel(app).dlq
    for _ in range(2):
        assert box.import_lines(["nothing", *lines, "… TW-DEAD-LETTER {"]) == Imported(letters=1, unreadable=1)
    (letter,) = dead()
    assert (letter.message, letter.count) == ("a1", 1)
    assert box.show(letter.letter_id).args == ["a1"]
