"""What the leader sees die is buried as a worker would have buried it, before its record goes."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from celery import Celery

import celery_tw
from celery_tw import TimeWheel
from celery_tw.integration.dlq.leaders_burials import bury_lost, take_back
from celery_tw.integration.dlq.letter_views import DeadLetter
from celery_tw.integration.node import Node
from celery_tw.integration.runs.runner import runner_of
from celery_tw.stores.redis.envelope import Envelope, read_envelope, write_envelope
from celery_tw.stores.redis.runs.claim import Claim
from celery_tw.stores.redis.runs.record import Record

Dead = Callable[..., list[DeadLetter]]


@pytest.fixture
def shop(app: Celery) -> Celery:
    """The app that the leader is one of."""
    return app


@pytest.fixture
def lost(app: Celery, leader: Node) -> Record:
    """A long run whose process is gone."""

    @app.task(base=celery_tw.LongTask, name="shop.rebuild", shared=False)
    def rebuild(year: int) -> None:
        """Do nothing."""

    headers = {"id": "t1", "task": "shop.rebuild", "tw_mid": "m1", "root_id": "t1"}
    envelope = Envelope(
        body=b"[[2026], {}, {}]",
        content_type="application/json",
        content_encoding="utf-8",
        headers=headers,
        properties={},
        exchange="",
        routing_key="celery",
    )
    runs = runner_of(app).runs
    runs.acquire(Claim(mid="m1", owner="host:1:a", task="shop.rebuild", task_id="t1", long=True))
    runs.messages.accept("m1", write_envelope(envelope))
    (record,) = runs.under_way.read(["m1"])
    return record


def test_a_run_lost_too_often_is_a_letter_with_its_message(app: Celery, dead: Dead, lost: Record) -> None:
    bury_lost(app, lost)

    (letter,) = dead()
    assert (letter.reason, letter.letter_id, letter.task, letter.task_id) == ("lost", "m1", "shop.rebuild", "t1")
    assert TimeWheel(app).dlq.show("m1").args == [2026]


def test_one_that_moved_in_the_last_moment_goes_on(app: Celery, dead: Dead, lost: Record) -> None:
    bury_lost(app, lost)
    take_back(app, lost)

    assert TimeWheel(app).dlq.count() == 0
    assert runner_of(app).runs.holds("m1", lost.token)
    again = Claim(mid="m1", owner="host:1:a", task="shop.rebuild", task_id="t1", long=True)
    assert runner_of(app).runs.acquire(again).verdict == "run"


def test_the_letter_of_a_node_is_taken_back_too(app: Celery, dead: Dead, lost: Record) -> None:
    envelope, task_id = read_envelope(lost.envelope or b""), f"{'0' * 32}.1.1"
    message = write_envelope(replace(envelope, headers={**envelope.headers, "id": task_id}))
    node = replace(lost, task_id=task_id, envelope=message)
    bury_lost(app, node)
    assert [letter.letter_id for letter in dead()] == [task_id]
    take_back(app, node)

    assert TimeWheel(app).dlq.count() == 0


def test_the_leader_buries_what_it_gives_up(app: Celery, dead: Dead, lost: Record, leader: Node) -> None:
    leader.duties.reaper.bury(lost)
    leader.duties.reaper.mourn(lost)

    (letter,) = dead()
    assert letter.count == 1
    assert app.AsyncResult("t1").state == "FAILURE"
