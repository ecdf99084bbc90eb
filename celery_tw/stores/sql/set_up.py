"""Set-up: makes the tables, and brings those of an older version up to date.

It may be done by any process at any time: what is there is left as it is. A process whose database user may not create tables needs them
made by one who may (``tw db upgrade``).
"""

import time

from sqlalchemy import Connection, Table, inspect, select, text, update
from sqlalchemy.exc import IntegrityError, ProgrammingError
from sqlalchemy.schema import CreateColumn

from celery_tw.errors import DatabaseUnavailable, ImproperlyConfigured, NewerSchema
from celery_tw.stores.sql.database import Database
from celery_tw.stores.sql.tables import VERSION, metadata, schema

ATTEMPTS = 10
AGAIN_S = 0.02


def set_up(database: Database) -> None:
    """Make the tables where they are missing; raises `NewerSchema`, or ImproperlyConfigured when this user may not."""
    if (database.transaction(stored_version) or 0) < VERSION:
        create(database)
    version = database.transaction(stored_version)
    if version is not None and version > VERSION:
        raise NewerSchema(f"the tables of DAGs are of version {version}, and this version of celery-tw knows {VERSION}: upgrade it")


def stored_version(connection: Connection) -> int | None:
    """Return the version of the tables, None when there are none."""
    if not inspect(connection).has_table(schema.name):
        return None
    return connection.execute(select(schema.c.version).where(schema.c.id == 1)).scalar()


def create(database: Database) -> None:
    """Make what is missing, beside others who may do so at that moment; where a table is a transaction of its own, they meet halfway."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            database.transaction(_create)
            return
        except (ProgrammingError, IntegrityError, DatabaseUnavailable) as error:
            if (database.transaction(stored_version) or 0) >= VERSION:
                return
            if attempt == ATTEMPTS:
                raise ImproperlyConfigured(
                    f"the tables of DAGs are missing or older, and this user of the database could not change that: run `tw db upgrade` "
                    f"as one who may ({error})"
                ) from error
        time.sleep(AGAIN_S * attempt)


def _create(connection: Connection) -> None:
    metadata.create_all(connection)
    for table in metadata.sorted_tables:
        _add_missing_columns(connection, table)
    if connection.execute(select(schema.c.version)).scalar() is None:
        connection.execute(schema.insert().values(id=1, version=VERSION))
    connection.execute(update(schema).where(schema.c.version < VERSION).values(version=VERSION))


def _add_missing_columns(connection: Connection, table: Table) -> None:
    """Add what later versions have added; each such column may be empty, so an older process can go on writing rows."""
    there = {column["name"] for column in inspect(connection).get_columns(table.name)}
    for column in table.columns:
        if column.name not in there:
            definition = CreateColumn(column).compile(dialect=connection.dialect)
            connection.execute(text(f"ALTER TABLE {table.name} ADD COLUMN {definition}"))
