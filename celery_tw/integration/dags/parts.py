"""Parts: what one process needs for the DAGs of one app, made when it is first asked for, and anew after a fork.

This is where SQLAlchemy is imported: an app without DAGs never has it.
"""

import os
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from celery_tw import events
from celery_tw.clock import SystemClock
from celery_tw.core.dag_state import RUN_ENDED, NodeState
from celery_tw.core.node_id import NodeId
from celery_tw.errors import ImproperlyConfigured
from celery_tw.integration.dags.open_runs import OpenRuns
from celery_tw.integration.dlq.node_attempts import forget_attempt
from celery_tw.settings import Settings

if TYPE_CHECKING:
    from celery_tw.integration.dags.carrying import Carrier
    from celery_tw.integration.dags.members import Members
    from celery_tw.integration.dags.sending import Sending
    from celery_tw.stores.sql.control import Control
    from celery_tw.stores.sql.database import Database
    from celery_tw.stores.sql.progress import Progress, Settled
    from celery_tw.stores.sql.reading import Reading
    from celery_tw.stores.sql.submitting import Submitting
    from celery_tw.stores.sql.sweeping import Sweeping


class DagParts:
    """The database of one app's DAGs, and the verbs on it; raises ImproperlyConfigured without ``tw_database_url``."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.settings = Settings.read(app.conf, app_name=app.main)
        if self.settings.database_url is None:
            raise ImproperlyConfigured("DAGs need a database: set tw_database_url, for example to 'postgresql+psycopg://user@host/name'")
        sqlalchemy_or_refuse()
        self.url = self.settings.database_url
        self.clock = SystemClock()

    @cached_property
    def untouched(self) -> "Database":
        """The database as it is, with or without tables."""
        from celery_tw.stores.sql.database import Database  # noqa: PLC0415 - only who uses DAGs has SQLAlchemy

        return Database(self.url)

    @cached_property
    def database(self) -> "Database":
        """The database with its tables."""
        from celery_tw.stores.sql.set_up import set_up  # noqa: PLC0415

        set_up(self.untouched)
        return self.untouched

    @cached_property
    def submitting(self) -> "Submitting":
        from celery_tw.stores.sql.submitting import Submitting  # noqa: PLC0415

        return Submitting(self.database, self.settings.namespace)

    @cached_property
    def progress(self) -> "Progress":
        from celery_tw.stores.sql.progress import Progress  # noqa: PLC0415

        return Progress(self.database)

    @cached_property
    def control(self) -> "Control":
        from celery_tw.stores.sql.control import Control  # noqa: PLC0415

        return Control(self.database)

    @cached_property
    def reading(self) -> "Reading":
        from celery_tw.stores.sql.reading import Reading  # noqa: PLC0415

        return Reading(self.database, self.settings.namespace)

    @cached_property
    def sweeping(self) -> "Sweeping":
        from celery_tw.stores.sql.sweeping import Sweeping  # noqa: PLC0415

        return Sweeping(self.database, self.settings.namespace)

    @cached_property
    def sending(self) -> "Sending":
        from celery_tw.integration.dags.sending import Sending  # noqa: PLC0415

        return Sending(self.app, self.progress, self.clock, patience_ms=self.settings.dag_canvas_timeout_ms, tell=self.tell)

    @cached_property
    def carrier(self) -> "Carrier":
        from celery_tw.integration.dags.carrying import Carrier  # noqa: PLC0415

        return Carrier(self)

    @cached_property
    def members(self) -> "Members":
        from celery_tw.integration.dags.members import Members  # noqa: PLC0415

        interval_ms, patience_ms = self.settings.heartbeat_interval_ms, self.settings.dag_canvas_timeout_ms
        return Members(self.progress, self.clock, interval_ms=interval_ms, patience_ms=patience_ms)

    @cached_property
    def open_runs(self) -> OpenRuns:
        return OpenRuns(self.app, self.settings)

    def settle(self, node_id: NodeId, settled: "Settled") -> None:
        """Tell of a node's end, and send what it released."""
        self.tell(node_id, settled)
        self.sending.send(settled.released)

    def tell(self, node_id: NodeId, settled: "Settled") -> None:
        """Send the events of a node's end."""
        if not settled.accepted:
            return
        if settled.state in (NodeState.QUEUED, NodeState.CANCELLED):
            forget_attempt(self.app, str(node_id))
        facts = {"run_id": node_id.run_id, "dag": settled.dag}
        if settled.state not in (None, NodeState.QUEUED):
            events.dag_node_ended.send(sender=self, node=settled.key, state=str(settled.state), attempt=node_id.attempt, **facts)
        if settled.run_state is not None and settled.run_state in RUN_ENDED:
            events.dag_run_ended.send(sender=self, state=str(settled.run_state), **facts)
            if settled.entry is not None:
                self.open_runs.follow(settled.entry, node_id.run_id, settled.run_state)

    def close(self) -> None:
        """End the thread and close the connections."""
        if "carrier" in vars(self):
            self.carrier.pulse.stop()
        if "members" in vars(self):
            self.members.pulse.stop()
        if "open_runs" in vars(self):
            self.open_runs.close()
        if "untouched" in vars(self):
            self.untouched.close()


def parts_of(app: Any) -> DagParts:
    """Return the parts of *app* in this process; raises ImproperlyConfigured."""
    pid, parts = vars(app).get("_tw_dags", (0, None))
    if pid != os.getpid():
        if parts is not None and "untouched" in vars(parts):
            parts.untouched.engine.dispose(close=False)  # the connections are the parent's
        parts = DagParts(app)
        app._tw_dags = (os.getpid(), parts)
    return parts


def sqlalchemy_or_refuse() -> None:
    """Raise ImproperlyConfigured, with the remedy, where SQLAlchemy is not installed."""
    if find_spec("sqlalchemy") is None:
        raise ImproperlyConfigured("DAGs need SQLAlchemy, which is not installed: pip install 'celery-tw[sql]'")


def has_database(app: Any) -> bool:
    """Return whether the app may have DAGs."""
    return app.conf.get("tw_database_url") is not None
