"""The rights, as they are shown."""

from collections.abc import Callable

import redis
from celery import Celery

from tests.cli.conftest import CommandLine


def test_it_shows_a_command_for_each_role(cli: CommandLine) -> None:
    scheduler, client, observer = cli.done("acl").splitlines()

    assert scheduler.startswith("ACL SETUSER shop-scheduler reset on '>password' resetkeys resetchannels -@all '~{tw:shop:0}:*' '~celery'")
    assert "+lpush" in scheduler
    assert "celery" not in client.replace("celery-tw", "")
    assert "'%R~{tw:shop:0}:*'" in observer
    assert "+set " not in observer


def test_a_role_can_be_asked_for_alone(cli: CommandLine) -> None:
    assert list(cli.json("acl", "--role", "observer")["acl"]) == ["shop-observer"]


def test_a_server_takes_what_is_shown(cli: CommandLine, redis_client: redis.Redis) -> None:
    for user, rules in cli.json("acl", "--redis-7.0")["acl"].items():
        assert redis_client.execute_command("ACL", "SETUSER", user, "reset", "on", ">secret", *rules)
        redis_client.execute_command("ACL", "DELUSER", user)


def test_queues_of_a_broker_apart_are_not_in_it(make_app: Callable[..., Celery], redis_url: str) -> None:
    app = make_app("shop", broker_url="memory://", tw_redis_url=redis_url)

    assert "~celery" not in CommandLine(app).done("acl")
