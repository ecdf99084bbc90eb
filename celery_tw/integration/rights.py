"""Rights: the Redis users that an app's processes may log in as, each with what it needs."""

from typing import Any, NamedTuple

from celery_tw.integration.broker import key_prefix, shares_redis
from celery_tw.settings import Settings
from celery_tw.stores.redis.acl import ROLES, Role, rules


class User(NamedTuple):
    """A Redis user by its role."""

    name: str
    role: Role


def rights_of(app: Any, *, server: tuple[int, int]) -> dict[User, list[str]]:
    """Return the ACL rules of each user for the app's namespace; a scheduler may push to the queues that the app declares."""
    namespace = Settings.read(app.conf, app_name=app.main).namespace
    queues = [key_prefix(app) + name for name in sorted(app.amqp.queues)] if shares_redis(app) else []
    users = [User(f"{namespace}-{role}", role) for role in ROLES]
    return {user: rules(user.role, namespace=namespace, queues=queues, server=server) for user in users}
