"""A dead letter is replayed: a new send of the same task, which waits for the leader like any other, and keeps its lineage."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from celery import Celery, chord

import celery_tw
from celery_tw import TimeWheel, UnknownDeadLetter
from celery_tw.core.death import Death
from celery_tw.embedded import EmbeddedServer
from celery_tw.integration.dlq.dead_letters import DeadLetterBox
from celery_tw.integration.dlq.letter_views import DeadLetter
from celery_tw.integration.node import Node
from celery_tw.integration.runs.runner import runner_of
from celery_tw.stores.redis.dead_letters import DeadLetters
from celery_tw.stores.redis.envelope import Envelope, write_envelope
from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.redis.runs.claim import Claim
from tests.cutting import CuttingProxy
from tests.stock_worker import working
from tests.waiting import wait_until

Dead = Callable[..., list[DeadLetter]]
KEYS = Keys("shop")
TIMEOUT_S = 10


@pytest.fixture
def shop(app: Celery) -> Celery:
    """The app that the leader is one of."""
    return app


@pytest.fixture
def box(app: Celery) -> DeadLetterBox:
    return TimeWheel(app).dlq


@pytest.fixture
def letters(redis_client: redis.Redis) -> DeadLetters:
    return DeadLetters(redis_client, KEYS)


def fire(leader: Node, until: Callable[[], Any], message: str = "") -> None:
    """Let *leader* fire what is due until something has come about."""

    def stepped() -> Any:
        leader.engine.step()
        return until()

    wait_until(stepped, message=message)


def bury(letters: DeadLetters, letter_id: str, *, message: bytes = b"", **facts: Any) -> None:
    envelope = Envelope(
        body=b'[[1], {"b": 2}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]',
        content_type="application/json",
        content_encoding="utf-8",
        headers={"task": "shop.add", "id": f"t-{letter_id}", "tw_mid": letter_id, "retries": 2, "expires": "2020-01-01T00:00:00"},
        properties={"delivery_mode": 2, "priority": 0},
        exchange="",
        routing_key="celery",
        declare=("celery",),
    )
    death = Death(**{"reason": "failed", "task": "shop.add", "task_id": f"t-{letter_id}", "mid": letter_id, "queue": "celery", **facts})
    letters.bury(letter_id, message or write_envelope(envelope), death)


def test_what_was_fixed_runs_to_its_end_and_what_was_not_dies_again_with_its_lineage(app: Celery, dead: Dead, leader: Node) -> None:
    fixed: list[bool] = []
    seen: list[dict[str, Any]] = []

    @app.task(base=celery_tw.Task, bind=True, name="shop.pay", shared=False, max_retries=1)
    def pay(self: Any, account: str, items: list[int]) -> str:
        seen.append({"retries": self.request.retries, "generation": vars(self.request).get("tw_generation")})
        if not fixed:
            raise self.retry(exc=ValueError("no money"), countdown=0)
        return f"{account} has paid {items}"

    box = TimeWheel(app).dlq
    with working(app):
        result = pay.delay("a1", items=[1, 2])
        (first,) = dead()
        assert box.requeue(ids=[first.letter_id]).count == 1
        assert box.count() == 0
        fire(leader, lambda: box.count() == 1, "the replay to die")
        (second,) = dead()
        fixed.append(True)
        assert box.requeue().count == 1
        fire(leader, lambda: len(seen) == 5, "the second replay to run")
        wait_until(lambda: result._get_task_meta()["status"] == "SUCCESS")

    assert (second.generation, second.replay_of, second.task_id) == (1, first.letter_id, first.task_id)
    assert second.mid not in ("", first.mid)
    assert seen == [{"retries": retries, "generation": generation} for generation in (None, 1) for retries in (0, 1)] + [
        {"retries": 0, "generation": 2}
    ]
    assert app.AsyncResult(result.id).result == "a1 has paid [1, 2]"


@pytest.mark.parametrize(
    ("edited", "expected"),
    [({}, [1, 2]), ({"args": (7,)}, [7, 2]), ({"kwargs": {"b": 9}}, [1, 9]), ({"args": (), "kwargs": {"a": 3, "b": 4}}, [3, 4])],
    ids=["as they were", "other args", "other kwargs", "both"],
)
def test_arguments_can_be_mended(
    app: Celery, box: DeadLetterBox, letters: DeadLetters, leader: Node, edited: dict[str, Any], expected: list[int]
) -> None:
    ran: list[list[int]] = []

    @app.task(name="shop.add", shared=False)
    def add(a: int, b: int) -> None:
        ran.append([a, b])

    bury(letters, "m1")
    assert box.requeue(ids=["m1"], **edited).count == 1
    with working(app, concurrency=1):
        fire(leader, lambda: ran, "the replay to run")
    assert ran == [expected]


def test_what_could_not_be_read_runs_once_it_is_given_arguments(app: Celery, dead: Dead, leader: Node) -> None:
    ran: list[int] = []

    @app.task(name="shop.add", shared=False)
    def add(a: int) -> None:
        ran.append(a)

    box = TimeWheel(app).dlq
    with working(app, concurrency=1):
        with app.connection_for_write() as connection:
            headers = {"id": "t1", "task": "shop.add", "tw_mid": "m1"}
            connection.Producer().publish(
                "7", routing_key="celery", content_type="application/json", content_encoding="utf-8", headers=headers
            )
        dead()
        with pytest.raises(ValueError, match="give both"):
            box.requeue(ids=["m1"], args=[1])
        box.requeue(ids=["m1"], args=[5], kwargs={})
        fire(leader, lambda: ran, "the mended message to run")
    assert ran == [5]


def test_arguments_are_mended_for_one_letter_only(box: DeadLetterBox, letters: DeadLetters) -> None:
    bury(letters, "m1")
    bury(letters, "m2")
    for filters in ({}, {"ids": ["m9"]}):
        with pytest.raises(ValueError, match="one letter only"):
            box.requeue(args=[1], **filters)
    assert box.count() == 2


def test_a_rate_spreads_replays_in_the_order_of_their_deaths(box: DeadLetterBox, letters: DeadLetters, redis_client: redis.Redis) -> None:
    for number in range(5):
        bury(letters, f"m{number}")
        redis_client.zadd(KEYS.dlq, {f"m{number}": number})

    assert box.requeue(rate=0.5).count == 5

    due = redis_client.zrange(KEYS.due, 0, -1, withscores=True)
    assert [int(due_ms - due[0][1]) for _, due_ms in due] == [0, 2000, 4000, 6000, 8000]
    tasks = {task.decode(): entry for task, entry in redis_client.hgetall(KEYS.by_task).items()}
    assert [tasks[f"t-m{number}"] for number in range(5)] == [entry for entry, _ in due]


def test_a_waiting_replay_can_be_cancelled_like_any_other_task(app: Celery, box: DeadLetterBox, letters: DeadLetters) -> None:
    bury(letters, "m1")
    box.requeue()

    assert TimeWheel(app).cancel("t-m1").found


@pytest.mark.parametrize("alive", ["its process has it", "its process has lost it and runs on"])
def test_a_replay_waits_while_the_body_that_died_still_runs(
    app: Celery, box: DeadLetterBox, letters: DeadLetters, leader: Node, redis_client: redis.Redis, alive: str
) -> None:
    ran: list[int] = []

    @app.task(base=celery_tw.Task, name="shop.add", shared=False)
    def add(a: int, b: int) -> None:
        ran.append(a)

    bury(letters, "m1")
    runs = runner_of(app).runs
    if alive == "its process has it":
        runs.acquire(Claim(mid="m1", owner="elsewhere:1:a", task="shop.add", task_id="t-m1"))
    else:
        runs.signs.beat([("m1", "9", "t-m1", ())], extend=False, processes=("elsewhere:1", "elsewhere:0"))
    box.requeue()
    with working(app, concurrency=1):
        fire(leader, lambda: redis_client.zcard(KEYS.due) == 1 and not redis_client.llen("celery"), "the replay to be parked")
        assert ran == []
        redis_client.delete(KEYS.run("m1"))
        runs.signs.lay_to_rest("m1")
        fire(leader, lambda: ran, "the replay to run")


def test_a_replay_asks_again_when_redis_does_not_say_whether_the_body_that_died_still_runs(
    app: Celery, box: DeadLetterBox, letters: DeadLetters, leader: Node, redis_server: EmbeddedServer, redis_client: redis.Redis
) -> None:
    ran: list[int] = []

    @app.task(base=celery_tw.Task, name="shop.add", shared=False)
    def add(a: int, b: int) -> None:
        ran.append(a)

    bury(letters, "m1")
    runs = runner_of(app).runs
    runs.acquire(Claim(mid="m1", owner="elsewhere:1:a", task="shop.add", task_id="t-m1"))
    box.requeue()
    with CuttingProxy(str(redis_server.socket_path)) as proxy, proxy.client() as client:
        runs.signs.client = client
        proxy.cut_answers_to(b"ZSCORE", number=1)
        with working(app, concurrency=1):
            fire(leader, lambda: ran or (proxy.cuts and redis_client.zcard(KEYS.due) == 1), "the replay to be parked")
    assert ran == []


def test_a_member_of_a_chord_runs_without_it_and_says_so(app: Celery, dead: Dead) -> None:
    @app.task(base=celery_tw.Task, shared=False)
    def add(numbers: list[int] | None = None) -> int:
        if numbers is None:
            raise ValueError
        return sum(numbers)

    with working(app):
        chord([add.si()])(add.s())
        dead()
    replayed = TimeWheel(app).dlq.requeue()
    assert replayed.count == 1
    assert "the body of the chord does not" in replayed.warnings[0]


def test_letters_are_chosen_by_what_is_known_of_them(box: DeadLetterBox, letters: DeadLetters, redis_client: redis.Redis) -> None:
    bury(letters, "m1", task="shop.add", exception="shop.errors.Broke", fingerprint="f1")
    bury(letters, "m2", task="shop.pay", exception="ValueError", fingerprint="f2", queue="slow", reason="lost")
    bury(letters, "m3", task="shop.pay", exception="ValueError", fingerprint="f2")
    for number in (1, 2, 3):
        redis_client.zadd(KEYS.dlq, {f"m{number}": 1000 * number})
        redis_client.hset(KEYS.dead(f"m{number}"), "last", 1000 * number)
    moment = datetime(1970, 1, 1, tzinfo=UTC)

    def ids(**filters: Any) -> list[str]:
        return [letter.letter_id for letter in box.list(**filters).letters]

    assert ids() == ["m3", "m2", "m1"]
    assert ids(task="shop.pay") == ids(fingerprint="f2") == ids(exception="Value*") == ["m3", "m2"]
    assert ids(exception="Broke") == ids(exception="shop.errors.Broke") == ["m1"]
    assert ids(queue="slow") == ids(reason="lost") == ids(ids=["m2", "m9"]) == ["m2"]
    assert ids(since=moment + timedelta(seconds=2)) == ["m3", "m2"]
    assert ids(until=moment + timedelta(seconds=2), task="shop.pay") == ["m2"]
    assert [(group.fingerprint, group.count) for group in box.groups()] == [("f2", 2), ("f1", 1)]
    page = box.list(limit=2)
    assert page.cursor is not None
    assert [letter.letter_id for letter in box.list(limit=2, cursor=page.cursor).letters] == ["m1"]
    with pytest.raises(ValueError, match="not 'tired'"):
        ids(reason="tired")
    with pytest.raises(ValueError, match="no cursor"):
        ids(cursor="next")


def test_a_purged_letter_is_gone(box: DeadLetterBox, letters: DeadLetters) -> None:
    bury(letters, "m1")
    bury(letters, "m2")

    assert box.purge(ids=["m1"]) == 1
    assert [letter.letter_id for letter in box.list().letters] == ["m2"]
    with pytest.raises(UnknownDeadLetter):
        box.show("m1")


def test_a_letter_whose_message_is_spoiled_can_be_seen_and_stays(box: DeadLetterBox, letters: DeadLetters) -> None:
    bury(letters, "m1", message=b"{")

    assert (box.show("m1").body, box.show("m1").args) == (b"{", None)
    replayed = box.requeue()
    assert (replayed.count, box.count()) == (0, 1)
    assert "m1 stays" in replayed.warnings[0]
