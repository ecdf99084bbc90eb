"""Broker: our own client of the Redis that holds the timetable, which is the app's broker unless ``tw_redis_url`` says otherwise.

Where the queues are in that same database a fire claims a slot and enqueues its message in one script. With any other
broker it claims into the outbox, and the message is published from there (``scheduler/outbox.py``). ``shares_redis`` tells which.

The client is built from what kombu derives from the app's settings (URL, TLS, socket, sentinels, lists, credentials), but is not kombu's:
no key prefix, bytes as replies, sub-second time-outs, and no retries, because only the caller knows whether a script may be sent
again. Building it connects to nothing. And where kombu takes a ``rediss`` URL without options to mean that no certificate is looked at,
ours verifies it, and the name in it: not to is a thing to be said, with ``ssl_cert_reqs``.
"""

import json
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any

from celery.exceptions import ImproperlyConfigured
from kombu.connection import Connection
from kombu.transport.redis import Transport
from redis import ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.connection import SSLConnection, UnixDomainSocketConnection
from redis.retry import Retry

from celery_tw.integration.failover import FailoverPool
from celery_tw.integration.messages.silent_channel import silent_channel
from celery_tw.stores.redis.envelope import NEUTRAL

CLIENT_NAME = "celery-tw"
MAX_CONNECTIONS = 1000
"""One for each task that a worker runs at a time, at most for a moment each; some pools run hundreds."""


def connect(app: Any, *, timeout_s: float = 0.8) -> Redis:
    """Return a client of the timetable's Redis; it connects when first used, and each command may take *timeout_s*.

    Raises ImproperlyConfigured when neither the broker nor ``tw_redis_url`` is a Redis, or one of them cannot be read.
    """
    redis_or_refuse(app)
    url = app.conf.get("tw_redis_url")
    pools = _pools(app, url)
    for pool in pools:
        _make_ours(pool, timeout_s=timeout_s)
        if issubclass(pool.connection_class, SSLConnection) and not _says_what_to_verify(app, url):
            pool.connection_kwargs.update({"ssl_cert_reqs": "required", "ssl_check_hostname": True})
    return Redis.from_pool(pools[0] if len(pools) == 1 else FailoverPool(pools))  # type: ignore[arg-type]


def _says_what_to_verify(app: Any, url: str | None) -> bool:
    """Return whether the URL or the broker's TLS settings say which certificates are good."""
    options = app.conf.broker_use_ssl
    return "ssl_cert_reqs" in str(url or app.conf.broker_write_url) or (isinstance(options, Mapping) and "ssl_cert_reqs" in options)


def redis_or_refuse(app: Any) -> None:
    """Raise ImproperlyConfigured unless the app names a broker, and a Redis for the timetable, by URLs that can be read."""
    if not app.conf.broker_write_url and not app.conf.broker_transport:
        raise ImproperlyConfigured(
            f"no broker_url is set for the app {app.main!r}: the time wheel lives in the Redis that is the app's broker, "
            "so set one, as in broker_url = 'redis://localhost:6379/0'"
        )
    url = app.conf.get("tw_redis_url")
    if url is not None:
        _connection(app, url)
    elif not has_redis_broker(app):
        raise ImproperlyConfigured(
            f"the broker of the app {app.main!r} is {transport_name(app)!r}, and the timetable needs a Redis: "
            "set tw_redis_url, as in tw_redis_url = 'redis://localhost:6379/0'"
        )


def shares_redis(app: Any) -> bool:
    """Return whether the queues are in the timetable's Redis, same server and database, so that one script reaches both."""
    if not has_redis_broker(app):
        return False
    url = app.conf.get("tw_redis_url")
    return url is None or servers(app, url) == servers(app)


def has_redis_broker(app: Any) -> bool:
    """Return whether the app's broker is a Redis."""
    try:
        return issubclass(_readable("broker_url", app.connection_for_write).get_transport_cls(), Transport)
    except ImportError:  # a broker whose client library is not installed is no Redis either
        return False


def transport_name(app: Any) -> str:
    """Return the name of the broker's transport, as its URL begins."""
    try:
        return str(app.connection_for_write().transport_cls)
    except ImportError:
        return str(app.conf.broker_write_url).partition("://")[0]


def key_prefix(app: Any) -> str:
    """Return the ``global_keyprefix`` that kombu puts before each key it uses."""
    return str(app.conf.broker_transport_options.get("global_keyprefix", ""))


def fingerprint(app: Any) -> str:
    """Return a short hash of all that makes an envelope fit this broker and no other; no secrets go into it.

    What waits for a broker outside the timetable's Redis is in neutral form and fits them all.
    """
    if not shares_redis(app):
        return NEUTRAL
    options = app.conf.broker_transport_options
    facts = [servers(app), {name: repr(options[name]) for name in sorted(options) if "pass" not in name and "sentinel_kw" not in name}]
    return blake2b(json.dumps(facts).encode(), digest_size=8).hexdigest()


def servers(app: Any, url: str | None = None) -> list[str]:
    """Return the servers and databases that the broker's URL, or *url*, names, as text without secrets."""
    return [_server(pool) for pool in _pools(app, url)]


def place_of(pool: Any) -> str | None:
    """Return the server, the database and the user of a connection *pool*; None when they may be others at the next connection."""
    where = getattr(pool, "connection_kwargs", None)
    if where is None or isinstance(pool, FailoverPool) or _sentinels(pool) or where.get("credential_provider"):
        return None
    return f"{where.get('username') or ''}@{_server(pool)}"


def _pools(app: Any, url: str | None) -> list[ConnectionPool]:
    """Return kombu's pool for each server of a list URL, or one pool over all sentinels."""
    connection = _connection(app, url)
    listed = connection.alt if connection.transport.default_port == Transport.default_port else []
    connections = [_connection(app, each) for each in listed] if len(listed) > 1 else [connection]
    return [_pool(each) for each in connections]


def _connection(app: Any, url: str | None) -> Connection:
    """Return a connection to *url*, the broker's by default; only a Redis broker's options are those of a Redis."""
    setting = "broker_url" if url is None else "tw_redis_url"
    connect_to = app.connection_for_write if has_redis_broker(app) else app.amqp.Connection
    connection = _readable(setting, lambda: connect_to(url))
    if not issubclass(connection.get_transport_cls(), Transport):
        raise ImproperlyConfigured(f"tw_redis_url: expected the URL of a Redis, got one that begins with {connection.transport_cls!r}")
    return connection


def _readable(setting: str, make: Callable[[], Connection]) -> Connection:
    """Return the connection that *make* makes of a URL; one that kombu cannot read is not shown, for it may hold a password."""
    try:
        connection = make()
        connection.get_transport_cls()
    except (KeyError, TypeError, ValueError):
        raise ImproperlyConfigured(
            f"{setting}: expected a URL such as 'redis://user:password@localhost:6379/0', in which special characters of the password are "
            "written as by urllib.parse.quote, got one that cannot be read, or names a broker that Celery does not know"
        ) from None
    return connection


def _pool(connection: Connection) -> ConnectionPool:
    channel = silent_channel(connection)
    try:
        return channel._get_pool()
    except ValueError as error:
        raise ImproperlyConfigured(f"the broker settings lead to no Redis: {error}") from error
    finally:
        channel.close()


def _make_ours(pool: ConnectionPool, *, timeout_s: float) -> None:
    ours: dict[str, Any] = {
        "client_name": CLIENT_NAME,
        "decode_responses": False,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_timeout": False,
        "socket_timeout": timeout_s,
    }
    if not issubclass(pool.connection_class, UnixDomainSocketConnection):
        ours["socket_connect_timeout"] = timeout_s
    pool.connection_kwargs.pop("retry_on_error", None)
    pool.connection_kwargs.update(ours)
    pool.max_connections = MAX_CONNECTIONS
    for sentinel in _sentinels(pool):
        sentinel.connection_pool.connection_kwargs.update(
            {"retry": Retry(NoBackoff(), 0), "socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
        )


def _sentinels(pool: Any) -> list[Redis]:
    manager = getattr(pool, "sentinel_manager", None)
    return manager.sentinels if manager else []


def _server(pool: Any) -> str:
    where: Mapping[str, Any] = pool.connection_kwargs
    database = int(where.get("db") or 0)
    if nodes := _sentinels(pool):
        addresses = sorted(_address(node.connection_pool.connection_kwargs) for node in nodes)
        return f"{pool.service_name}@{','.join(addresses)}/{database}"
    return f"{where.get('path') or _address(where)}/{database}"


def _address(where: Mapping[str, Any]) -> str:
    host = str(where.get("host") or "localhost").lower()
    return f"{'localhost' if host in ('127.0.0.1', '::1') else host}:{where.get('port') or Transport.default_port}"
