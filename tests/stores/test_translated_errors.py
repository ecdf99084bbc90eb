"""Errors of the server, as redis-py hands them on, become the two that the floors above tell apart."""

import pytest
import redis
from redis.connection import DefaultParser

from celery_tw.errors import StaleEpoch, StoreRefused, StoreUnavailable
from celery_tw.stores.redis.scripts import script, translated_errors

NOT_READY = ("READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "UNKILLABLE", "LOADING", "NOAUTH")
REFUSED = ("OOM", "MISCONF", "NOREPLICAS", "NOPERM", "WRONGTYPE", "ERR")


def raise_reply(text: str) -> None:
    """Raise what redis-py makes of the error reply *text*: it strips the code where it has a class for it."""
    error = DefaultParser(socket_read_size=65536).parse_error(text)
    assert isinstance(error, redis.exceptions.RedisError)
    with translated_errors("fire"):
        raise error


@pytest.mark.parametrize("code", NOT_READY)
def test_a_server_that_cannot_serve_now_is_unavailable(code: str) -> None:
    with pytest.raises(StoreUnavailable):
        raise_reply(f"{code} the server's own words")


@pytest.mark.parametrize("reply", ["NOAUTH Authentication required.", "WRONGPASS invalid username-password pair or user is disabled."])
def test_a_wrong_or_missing_password_is_told_as_such(reply: str) -> None:
    with pytest.raises(StoreUnavailable, match="Redis does not take the user and password of its URL"):
        raise_reply(reply)


@pytest.mark.parametrize("code", REFUSED)
def test_a_server_that_says_no_has_refused(code: str) -> None:
    with pytest.raises(StoreRefused):
        raise_reply(f"{code} the server's own words")


def test_a_refused_epoch_is_told_apart() -> None:
    with pytest.raises(StaleEpoch):
        raise_reply("STALE epoch 7")


def test_half_a_character_is_refused_before_it_is_sent(redis_client: redis.Redis) -> None:
    with pytest.raises(StoreRefused, match="UTF-8"), translated_errors("GET"):
        redis_client.get("\ud800")


@pytest.mark.parametrize(("code", "file"), [("local function verdict", "fire.lua"), ("local function send", "parts/commands.lua")])
def test_an_error_of_a_script_tells_the_file_and_the_line(code: str, file: str) -> None:
    line = _line_of(code, script("fire").text)
    line_of_file = _line_of(code, dict(script("fire").sources)[file])

    with pytest.raises(StoreRefused, match=rf"ran into a wall script: f00, on @{file}:{line_of_file}\.$"):
        raise_reply(f"ERR ran into a wall script: f00, on @user_script:{line}.")


def _line_of(code: str, text: str) -> int:
    return text[: text.index(code)].count("\n") + 1
