"""Tables: what is kept of workflows. All times are int UTC ms; all names begin with ``tw_dag``.

=====================  ==============================================================================================
``tw_dag_schema``      the version of these tables
``tw_dag_fence``       the highest epoch of a leader that has written, one row a namespace
``tw_dag_definition``  DAGs that entries submit, under the digest of their text
``tw_dag_run``         a run: its state, how many of its nodes have not ended (*open_nodes*), and the *entry* of which it counts
                       as a fire
``tw_dag_node``        a node of a run: its state and attempt, how many of its parents have not ended (*unresolved*),
                       its signature, its result
``tw_dag_edge``        parent and child, by number
=====================  ==============================================================================================

A run's row is the lock of all that belongs to the run: every verb that moves more than one node's state takes it first. So a countdown
never meets another of the same run, and no two verbs can wait for each other.
"""

from typing import Any

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, MetaData, String, Table, Text
from sqlalchemy.dialects.mysql import LONGTEXT, VARCHAR

VERSION = 2

metadata = MetaData()

_text = Text().with_variant(LONGTEXT(charset="utf8mb4"), "mysql", "mariadb")


def _word(length: int) -> String:
    """Return a type whose comparison tells capitals and accents apart in every database."""
    return String(length).with_variant(VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb")


def _table(name: str, *parts: Column[Any] | Index) -> Table:
    return Table(name, metadata, *parts, mysql_engine="InnoDB", mariadb_engine="InnoDB")


schema = _table(
    "tw_dag_schema",
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
)

fence = _table(
    "tw_dag_fence",
    Column("namespace", _word(100), primary_key=True),
    Column("epoch", BigInteger, nullable=False),
)

definition = _table(
    "tw_dag_definition",
    Column("digest", String(64), primary_key=True),
    Column("name", _word(200), nullable=False),
    Column("document", _text, nullable=False),
    Column("stored_ms", BigInteger, nullable=False),
)

run = _table(
    "tw_dag_run",
    Column("id", String(32), primary_key=True),
    Column("namespace", _word(100), nullable=False),
    Column("name", _word(200), nullable=False),
    Column("idempotency_key", _text),
    Column("entry", _text),
    Column("state", String(10), nullable=False),
    Column("nodes", Integer, nullable=False),
    Column("open_nodes", Integer, nullable=False),
    Column("submitted_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger),
    Index("tw_dag_run_submitted", "namespace", "submitted_ms"),
    Index("tw_dag_run_ended", "namespace", "ended_ms"),
)

node = _table(
    "tw_dag_node",
    Column("run_id", String(32), ForeignKey("tw_dag_run.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("node_key", _word(200), nullable=False),
    Column("task", _text, nullable=False),
    Column("signature", _text, nullable=False),
    Column("trigger_rule", String(20)),
    Column("on_failure", String(20), nullable=False),
    Column("args_from", _text, nullable=False),
    Column("for_each", Integer),
    Column("retries", Integer, nullable=False),
    Column("retries_left", Integer, nullable=False),
    Column("retry_delay_ms", BigInteger),  # after the first failure; none is none
    Column("state", String(10), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("unresolved", Integer, nullable=False),
    Column("delivery", Integer, nullable=False),  # Celery's own retries of the copy that runs; -1 when the next copy may be any
    Column("beat", BigInteger, nullable=False),
    Column("sends", Integer, nullable=False),
    Column("losses", Integer, nullable=False),
    Column("not_before_ms", BigInteger),
    Column("queued_ms", BigInteger),
    Column("started_ms", BigInteger),
    Column("ended_ms", BigInteger),
    Column("result", _text),
    Column("by_reference", Integer, nullable=False),
    Column("error", _text),
    Index("tw_dag_node_state", "state", "run_id"),
)

edge = _table(
    "tw_dag_edge",
    Column("run_id", String(32), ForeignKey("tw_dag_run.id", ondelete="CASCADE"), primary_key=True),
    Column("parent", Integer, primary_key=True, autoincrement=False),
    Column("child", Integer, primary_key=True, autoincrement=False),
    Index("tw_dag_edge_child", "run_id", "child"),
)
