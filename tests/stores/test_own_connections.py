"""Connections of our own: what they answer, and what becomes of one when a call goes wrong."""

import threading

import pytest
import redis

from celery_tw.errors import StoreUnavailable
from celery_tw.integration.failover import FailoverPool
from celery_tw.stores.redis.own_connections import MOST_IDLE, OwnConnections
from celery_tw.stores.redis.scripts import Script
from tests.cutting import CuttingProxy
from tests.running import running_server
from tests.waiting import wait_until

ECHO, FAIL = "return ARGV[1]", "return redis.error_reply('WRONG')"


@pytest.fixture
def own(redis_client: redis.Redis) -> OwnConnections:
    return OwnConnections(redis_client)


def digest(client: redis.Redis, text: str) -> str:
    return client.script_load(text)


def connections(client: redis.Redis) -> int:
    return len(client.client_list())


def test_a_script_answers_as_through_a_client(own: OwnConnections, redis_client: redis.Redis) -> None:
    assert own.evalsha(digest(redis_client, ECHO), 1, "key", "a") == b"a"


def test_calls_one_after_the_other_take_one_connection_in_whatever_thread(own: OwnConnections, redis_client: redis.Redis) -> None:
    sha = digest(redis_client, ECHO)
    before = connections(redis_client)
    answers: list[bytes] = [own.evalsha(sha, 0, "a"), own.evalsha(sha, 0, "b")]
    thread = threading.Thread(target=lambda: answers.append(own.evalsha(sha, 0, "c")))
    thread.start()
    thread.join()
    assert answers == [b"a", b"b", b"c"]
    assert connections(redis_client) == before + 1


def test_an_error_of_a_script_leaves_the_connection_as_it_is(own: OwnConnections, redis_client: redis.Redis) -> None:
    sha = digest(redis_client, ECHO)
    own.evalsha(sha, 0, "a")
    before = connections(redis_client)
    with pytest.raises(redis.exceptions.ResponseError, match="WRONG"):
        own.evalsha(digest(redis_client, FAIL), 0)
    assert own.evalsha(sha, 0, "b") == b"b"
    assert connections(redis_client) == before


def test_a_script_that_the_server_does_not_know_is_loaded(own: OwnConnections, redis_client: redis.Redis) -> None:
    redis_client.script_flush()
    assert Script("draw_number").run(own, ["{k}:order:a"], ["m", "", 1000]) is not None


def test_a_connection_that_the_server_has_closed_is_opened_again(own: OwnConnections, redis_client: redis.Redis) -> None:
    sha = digest(redis_client, ECHO)
    own.evalsha(sha, 0, "a")
    redis_client.client_kill_filter(_type="normal", skipme=True)
    assert own.evalsha(sha, 0, "b") == b"b"


def test_a_lost_answer_is_not_taken_for_that_of_the_next_call() -> None:
    with running_server() as server, server.client() as direct, CuttingProxy(str(server.socket_path)) as proxy:
        sha = digest(direct, ECHO)
        with proxy.client() as client:
            own = OwnConnections(client)
            assert own.evalsha(sha, 0, "a") == b"a"
            proxy.cut_answers_to(b"EVALSHA", number=1)
            with pytest.raises(redis.exceptions.ConnectionError):
                own.evalsha(sha, 0, "b")
            assert own.evalsha(sha, 0, "c") == b"c"


def test_a_call_that_is_interrupted_ends_its_connection(
    own: OwnConnections, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha = digest(redis_client, ECHO)
    own.evalsha(sha, 0, "a")
    connection = own._idle[0].connection
    read = connection.read_response

    def interrupted() -> bytes:
        monkeypatch.setattr(connection, "read_response", read)
        raise SystemExit

    monkeypatch.setattr(connection, "read_response", interrupted)
    with pytest.raises(SystemExit):
        own.evalsha(sha, 0, "b")
    assert own.evalsha(sha, 0, "c") == b"c"


def test_after_a_failure_the_next_call_goes_to_the_server_that_the_pool_has_then() -> None:
    with running_server() as first, running_server() as second, first.client() as one, second.client() as other:
        for client in (one, other):
            digest(client, ECHO)
        own = OwnConnections(redis.Redis.from_pool(FailoverPool([one.connection_pool, other.connection_pool])))
        sha = digest(one, ECHO)
        assert own.evalsha(sha, 0, "a") == b"a"
        first.kill()
        with pytest.raises((redis.exceptions.ConnectionError, OSError)):
            own.evalsha(sha, 0, "b")
        assert own.evalsha(sha, 0, "c") == b"c"


def test_after_a_burst_the_pool_has_its_connections_back(own: OwnConnections, redis_client: redis.Redis) -> None:
    before = connections(redis_client)
    burst = [own._take() for _ in range(MOST_IDLE + 5)]
    assert connections(redis_client) == before + len(burst)
    for each in burst:
        own._keep(each)
    assert len(own._idle) == MOST_IDLE
    wait_until(lambda: connections(redis_client) <= before + 1 + MOST_IDLE, message="the others to be closed; one more asks")


def test_a_server_that_is_away_is_told_as_ever() -> None:
    with redis.Redis(port=1) as client, pytest.raises(StoreUnavailable):
        Script("ran").run(OwnConnections(client), ["{k}:run:a"], ["1", "x"])
