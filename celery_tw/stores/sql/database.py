"""Database: transactions on SQLite, PostgreSQL or MariaDB, with the errors that callers can act on.

A verb is a function of a connection, carried out in one transaction. One that met a deadlock or a locked file is carried out again, because
its transaction was rolled back. So is one whose connection turns out to have ended before it would commit: to ask each connection first
whether it lives would cost as much as one more statement. Silence is `DatabaseUnavailable`: the commit may have happened, so each verb is
safe to repeat.

SQLite is in WAL mode, and each transaction that may write takes the write lock as it begins: one that reads first and writes then would
fail where others write. The others read what is committed (READ COMMITTED): a verb reads after it has its run's lock, and must see what the
last holder did.

What may be forgotten in a power cut is *noted*: its commit does not wait for the disk. With SQLite the processes that noted it are gone
then, too; PostgreSQL, which can crash alone, forgets less than a second of it; MariaDB has no such commits. A later transaction that is on
disk has what was noted before it on disk as well.
"""

import time
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, NoSuchModuleError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from celery_tw.errors import DatabaseUnavailable, ImproperlyConfigured

ATTEMPTS = 5
AGAIN_S = 0.02
AT_ONCE_S = 1.0
BUSY_S = 10.0
SERVERS = ("postgresql", "mysql", "mariadb")
PATIENCE = {
    "psycopg": {"connect_timeout": 5, "tcp_user_timeout": 10_000},
    "psycopg2": {"connect_timeout": 5, "tcp_user_timeout": 10_000},
    "pymysql": {"connect_timeout": 5, "read_timeout": 30, "write_timeout": 30},
    "mysqldb": {"connect_timeout": 5, "read_timeout": 30, "write_timeout": 30},
}
"""Without these a server that vanished, power and all, would hold up a worker, or the leader, for many minutes."""

T = TypeVar("T")


class Database:
    """One process's connections to the database at *url*; it connects when first used."""

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        self._looking = self.engine.execution_options(tw_looks=True)
        self._noting = self.engine.execution_options(tw_notes=True)

    def transaction(self, verb: Callable[[Connection], T]) -> T:
        """Return what *verb* returns, once its transaction is committed; raises `DatabaseUnavailable`."""
        return self._carried_out(verb, self.engine)

    def note(self, verb: Callable[[Connection], T]) -> T:
        """Return what *verb* returns, once all others see what it did, be it on disk or not; raises `DatabaseUnavailable`."""
        return self._carried_out(verb, self._noting)

    def look(self, verb: Callable[[Connection], T]) -> T:
        """Return what *verb* reads, which changes nothing and holds up nobody; raises `DatabaseUnavailable`."""
        return self._carried_out(verb, self._looking)

    def _carried_out(self, verb: Callable[[Connection], T], engine: Engine) -> T:
        for attempt in range(1, ATTEMPTS + 1):
            committing, begun_s = False, time.monotonic()
            try:
                with engine.begin() as connection:
                    answer = verb(connection)
                    committing = True
                return answer
            except (OperationalError, InterfaceError, PoolTimeout) as error:
                at_once = time.monotonic() - begun_s < AT_ONCE_S  # a server that is silent ends the connection as well, but not so soon
                stale = attempt == 1 and not committing and at_once and _has_ended_the_connection(error)
                if attempt == ATTEMPTS or not (stale or _is_rolled_back(error)):
                    raise DatabaseUnavailable(f"{self.engine.url.render_as_string()} does not answer: {_first_line(error)}") from error
            time.sleep(AGAIN_S * attempt)
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Close the connections; the next verb makes new ones."""
        self.engine.dispose()


def _engine(url: str) -> Engine:
    try:
        kind = make_url(url).get_backend_name()
        if kind == "sqlite":
            return _sqlite(url)
        if kind in SERVERS:
            return _server(url)
    except ArgumentError as error:
        raise ImproperlyConfigured(
            "tw_database_url: expected a URL such as 'postgresql+psycopg://user@host/name', got something else"
        ) from error
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise ImproperlyConfigured(f"tw_database_url: the driver that it names is not installed: {error}") from error
    raise ImproperlyConfigured(f"tw_database_url: expected sqlite, postgresql, mysql or mariadb, got {kind}")


def _server(url: str) -> Engine:
    engine = create_engine(url, isolation_level="READ COMMITTED", connect_args=_patience(make_url(url)))
    if engine.dialect.name == "postgresql":
        event.listen(engine, "begin", _begin_postgres)
    return engine


def _begin_postgres(connection: Connection) -> None:
    if connection.get_execution_options().get("tw_notes"):
        connection.exec_driver_sql("SET LOCAL synchronous_commit = off")


def _patience(url: URL) -> dict[str, Any]:
    """Return how long the driver that *url* names waits for a server that is silent, as far as the URL does not say itself."""
    driver = url.get_driver_name()
    return {name: value for name, value in PATIENCE.get(driver, {}).items() if name not in url.query}


def _sqlite(url: str) -> Engine:
    if make_url(url).database in (None, "", ":memory:"):
        raise ImproperlyConfigured("tw_database_url: expected a file, because several processes share it, got a database in memory")
    engine = create_engine(url, connect_args={"timeout": BUSY_S})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # the driver would begin transactions of its own, and later than they must
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    options = connection.get_execution_options()
    raw = connection.connection.driver_connection
    assert raw is not None
    raw.execute(f"PRAGMA synchronous = {'NORMAL' if options.get('tw_notes') else 'FULL'}")
    connection.exec_driver_sql("BEGIN" if options.get("tw_looks") else "BEGIN IMMEDIATE")


def _is_rolled_back(error: Exception) -> bool:
    """Return whether the database says that it undid the transaction in favour of another one."""
    text = str(getattr(error, "orig", error)).lower()
    return isinstance(error, DBAPIError) and any(word in text for word in ("deadlock", "database is locked", "lock wait timeout"))


def _has_ended_the_connection(error: Exception) -> bool:
    """Return whether the connection was found dead; SQLAlchemy then replaces all that were made before."""
    return isinstance(error, DBAPIError) and error.connection_invalidated


def _first_line(error: Exception) -> str:
    return next(iter(str(getattr(error, "orig", None) or error).splitlines()), type(error).__name__)
