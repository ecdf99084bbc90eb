"""Calls under way on one connection."""

import pytest
import redis

from celery_tw.errors import StaleEpoch, StoreUnavailable
from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.redis.line import Line

KEYS = Keys("shop")


def hurry(entry_id: int) -> tuple[list[str | bytes], list[str | bytes | int]]:
    return [KEYS.due, KEYS.entry(entry_id), KEYS.held, KEYS.news, KEYS.news_seq], [entry_id, 100]


def test_replies_belong_to_their_calls_whichever_is_asked_first(redis_client: redis.Redis) -> None:
    redis_client.set(KEYS.entry(1), "a task")
    line = Line(redis_client)

    there, gone = line.send("hurry", *hurry(1)), line.send("hurry", *hurry(3))

    assert (gone.reply(), there.reply(), there.reply()) == (0, 1, 1)


def test_a_server_that_does_not_know_the_script_is_given_it(redis_client: redis.Redis) -> None:
    redis_client.script_flush()
    line = Line(redis_client)

    calls = [line.send("hurry", *hurry(1)) for _ in range(3)]

    assert [call.reply() for call in calls] == [0, 0, 0]


def test_an_error_is_that_of_its_own_call(redis_client: redis.Redis) -> None:
    line = Line(redis_client)

    stale = line.send("renew", [KEYS.leader, KEYS.clock], ["1", 1000])
    fine = line.send("hurry", *hurry(1))

    with pytest.raises(StaleEpoch):
        stale.reply()
    assert fine.reply() == 0


def test_a_call_on_a_broken_connection_has_no_answer_and_the_next_has(redis_client: redis.Redis) -> None:
    line = Line(redis_client)
    line.send("hurry", *hurry(1)).reply()
    redis_client.client_kill_filter(_id=line._own.client_id())

    with pytest.raises(StoreUnavailable):
        line.send("hurry", *hurry(1)).reply()
    assert line.send("hurry", *hurry(1)).reply() == 0


def test_dropped_calls_have_no_answer(redis_client: redis.Redis) -> None:
    line = Line(redis_client)
    call = line.send("hurry", *hurry(1))

    line.drop()

    with pytest.raises(StoreUnavailable):
        call.reply()
    assert line.send("hurry", *hurry(1)).reply() == 0
