"""Moves: updates whose answer is the rows that they wrote, in one statement where the database can say so.

SQLite (from 3.35) and PostgreSQL can; with MariaDB and MySQL the rows are read right after, in the same transaction, whose locks let nobody
come in between.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, Update


class Move:
    """*update*, and *read*, which reads in the same transaction the rows that it wrote; both are made once, as all statements are.

    *returns* are the columns of *read* as the update itself can give them.
    """

    def __init__(self, update: Update, *, read: Select[Any], returns: Sequence[Any] | None = None) -> None:
        self._update = update
        self._read = read
        self._returning = update.returning(*(read.selected_columns if returns is None else returns))

    def make(self, connection: Connection, values: Mapping[str, Any]) -> Sequence[Row[Any]]:
        """Write, and return the rows that were written."""
        if connection.dialect.update_returning:
            return connection.execute(self._returning, values).all()
        if connection.execute(self._update, values).rowcount == 0:
            return []
        return connection.execute(self._read, values).all()
