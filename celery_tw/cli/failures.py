"""Failures: an error that a person can act on becomes one line on standard error and an exit code, never a traceback.

1
    The command was refused: an unknown entry, an impossible schedule, wrong settings. Nothing was changed.
69
    Redis, or the database of DAGs, does not answer (``EX_UNAVAILABLE`` of sysexits.h). A change may or may not have happened.

Usage errors, code 2, are click's own. Any other exception is a fault of ours or of the user's modules, and keeps its traceback.
"""

from typing import Any

import click
from kombu.exceptions import OperationalError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from celery_tw.errors import CeleryTWError, DatabaseUnavailable, ImproperlyConfigured, StoreUnavailable
from celery_tw.integration import broker

REFUSED = 1
REDIS_AWAY = 69

_AWAY = (StoreUnavailable, RedisConnectionError, RedisTimeoutError)


class Failure(click.ClickException):
    """One line; the exit code says that the command was refused."""

    exit_code = REFUSED

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class RedisAway(Failure):
    """One line; the exit code says that Redis, or the database, does not answer."""

    exit_code = REDIS_AWAY


class OneLineErrors(click.Group):
    """The group whose commands fail in one line."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (CeleryTWError, ImproperlyConfigured, OperationalError, RedisError) as error:
            if isinstance(error, DatabaseUnavailable):
                raise RedisAway(str(error)) from error
            if _is_away(error):
                raise RedisAway(f"{_servers(ctx)}: {error}") from error
            raise Failure(str(error)) from error


def _is_away(error: Exception) -> bool:
    """Return whether Redis did not answer; Celery wraps an answer that it dislikes as if it were silence."""
    if isinstance(error, OperationalError):
        return not isinstance(error.__cause__, ResponseError)
    return isinstance(error, _AWAY)


def _servers(ctx: click.Context) -> str:
    return f"Redis at {', '.join(broker.servers(ctx.obj.app))} does not answer"
