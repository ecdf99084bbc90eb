"""The tests of the stores and of the scheduler again, as a user who has the published rights and no others.

What a test arranges and asserts by itself goes through the administrator's client, as ever; what the stores do goes through the user's. At
the end of each test the server's log of refused commands has to be empty.
"""

from collections.abc import Callable, Iterator

import pytest
import redis

from celery_tw.embedded import EmbeddedServer, server_version
from celery_tw.settings import Settings
from celery_tw.stores.redis.acl import rules
from tests.scheduler.conftest import Stand
from tests.stores.conftest import dispatching, election, epoch, keys, timetable  # noqa: F401 - fixtures

QUEUES = ("celery", "other", "queue", "wrong")


@pytest.fixture
def restricted(redis_server: EmbeddedServer, redis_client: redis.Redis) -> Iterator[redis.Redis]:
    """A client with a scheduler's rights."""
    granted = rules("scheduler", namespace="shop", queues=QUEUES, server=server_version(redis_server.binary) or (7, 0))
    redis_client.execute_command("ACL", "SETUSER", "beat", "reset", "on", "nopass", *granted)
    redis_client.execute_command("ACL", "LOG", "RESET")
    with redis_server.client(username="beat", password="any") as client:
        yield client
    redis_client.execute_command("ACL", "DELUSER", "beat")


@pytest.fixture(autouse=True)
def nothing_is_refused(restricted: redis.Redis, redis_client: redis.Redis) -> Iterator[None]:
    yield
    refused = redis_client.acl_log()
    assert refused == []


@pytest.fixture
def store_client(restricted: redis.Redis) -> redis.Redis:
    return restricted


class RestrictedStand(Stand):
    """A scheduler whose every part has the restricted client."""

    restricted: redis.Redis

    def __post_init__(self) -> None:
        administrator, self.client = self.client, self.restricted
        super().__post_init__()
        self.client = administrator


@pytest.fixture
def make_stand(restricted: redis.Redis, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Stand]:
    monkeypatch.setattr(RestrictedStand, "restricted", restricted, raising=False)

    def make(owner: str, **settings: object) -> Stand:
        return RestrictedStand(redis_client, Settings(namespace="shop", **settings), owner)  # type: ignore[arg-type]

    return make


@pytest.fixture
def stand(make_stand: Callable[..., Stand]) -> Stand:
    return make_stand("me")
