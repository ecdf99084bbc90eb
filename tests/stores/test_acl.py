"""The rights that are published suffice, and are no more than that."""

import re
from collections.abc import Iterator

import pytest
import redis

from celery_tw.embedded import EmbeddedServer, server_version
from celery_tw.stores.redis.acl import LEADERS_OWN, ROLES, Role, commands_of, rules, script_names
from celery_tw.stores.redis.election import Election, Led
from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.redis.scripts import script
from celery_tw.stores.redis.timetable import Timetable

KEYS = Keys("shop")


@pytest.fixture
def log_in(redis_server: EmbeddedServer, redis_client: redis.Redis) -> Iterator:
    """Return a client in one of the roles."""
    clients: list[redis.Redis] = []

    def make(role: Role) -> redis.Redis:
        granted = rules(role, namespace="shop", queues=["queue"], server=server_version(redis_server.binary) or (7, 0))
        redis_client.execute_command("ACL", "SETUSER", role, "reset", "on", "nopass", *granted)
        client = redis_server.client(username=role, password="any")
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()
    redis_client.execute_command("ACL", "DELUSER", *ROLES)
    redis_client.execute_command("ACL", "LOG", "RESET")


def test_every_command_of_a_script_is_found() -> None:
    for name in script_names():
        text = script(name).text
        called = len(re.findall(r"redis\.p?call\(", text)) - len(re.findall(r"redis\.p?call\((\.\.\.|command\.operation)", text))
        named = len(re.findall(r"redis\.p?call\('[A-Z]+'", text))
        assert called == named, f"{name}.lua calls a command that is not written out"
        assert commands_of(name)


def test_the_leaders_scripts_are_scripts() -> None:
    assert set(script_names()) >= LEADERS_OWN


def test_a_scheduler_reaches_no_key_of_another_namespace_or_queue(log_in) -> None:
    client = log_in("scheduler")
    for key in ("{tw:other:0}:due", "celery", "{tw:shop:0}"):
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.get(key)


def test_nobody_may_run_texts_of_their_own_or_administer(log_in) -> None:
    for role in ROLES:
        client = log_in(role)
        for words in (("EVAL", "return 1", "0"), ("FLUSHALL",), ("CONFIG", "SET", "maxmemory", "1"), ("KEYS", "*"), ("ACL", "LIST")):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*words)


def test_a_client_pushes_to_no_queue(log_in) -> None:
    with pytest.raises(redis.exceptions.NoPermissionError):
        log_in("client").lpush("queue", "message")


def test_an_observer_reads_and_writes_nothing(log_in, redis_client: redis.Redis) -> None:
    assert isinstance(Election(redis_client, KEYS).acquire("me", lease_ms=1000), Led)
    client = log_in("observer")

    assert Election(client, KEYS).leader()[0]["owner"] == "me"
    assert Timetable(client, KEYS).count() == (0, 0)
    with pytest.raises(redis.exceptions.NoPermissionError):
        client.set(KEYS.schema, 9)
