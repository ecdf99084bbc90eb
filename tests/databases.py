"""Databases: SQLite in a file, and a fresh PostgreSQL or MariaDB database where a server answers; see ``tests/requirements.py``.

``TW_POSTGRES_URL`` and ``TW_MARIADB_URL`` say where the servers are, and as whom to create databases there.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from tests.requirements import require

KINDS = ("sqlite", "postgres", "mariadb")
SERVERS = {
    "postgres": os.environ.get("TW_POSTGRES_URL", "postgresql+psycopg://postgres@127.0.0.1/postgres"),
    "mariadb": os.environ.get("TW_MARIADB_URL", "mysql+pymysql://root@127.0.0.1/mysql"),
}


@contextmanager
def database_of(kind: str, folder: Path) -> Iterator[str]:
    """Make an empty database, give its URL, and drop it."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'dags.db'}"
        return
    require(kind, missing=why_no(kind))
    name = f"tw_{uuid4().hex[:12]}"
    engine = create_engine(SERVERS[kind], isolation_level="AUTOCOMMIT")
    try:
        _do(engine, f"CREATE DATABASE {name}")
        yield make_url(SERVERS[kind]).set(database=name).render_as_string(hide_password=False)
    finally:
        _do(engine, f"DROP DATABASE IF EXISTS {name}{' WITH (FORCE)' if kind == 'postgres' else ''}")
        engine.dispose()


def why_no(kind: str) -> str | None:
    """Return why there is no server of that kind, or None."""
    try:
        engine = create_engine(SERVERS[kind])
        with engine.connect():
            pass
        engine.dispose()
    except (SQLAlchemyError, ModuleNotFoundError) as error:
        return str(error).splitlines()[0]
    return None


def _do(engine: object, statement: str) -> None:
    with engine.connect() as connection:  # type: ignore[attr-defined]
        connection.execute(text(statement))
