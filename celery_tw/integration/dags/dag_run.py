"""DAG run: a handle on one run, for whoever submitted it or knows its id."""

import time
from typing import TYPE_CHECKING, Any

from kombu.utils.json import dumps

from celery_tw.core.dag_state import RUN_ENDED
from celery_tw.dags.drawing import Drawn
from celery_tw.errors import CeleryTWError, ImproperlyConfigured, InvalidDag, UnknownNode
from celery_tw.integration.dags.results import LARGEST_RESULT, value_of
from celery_tw.integration.dags.views import DagRunView, NodeView, node_views, run_view

if TYPE_CHECKING:
    from celery_tw.integration.dags.parts import DagParts
    from celery_tw.stores.sql.control import Changed

SOONEST_S = 0.02
LATEST_S = 1.0


class DagRun:
    """The run *id*. Every verb may raise `UnknownDagRun` and `DatabaseUnavailable`; those that change it return how it stands then."""

    def __init__(self, parts: "DagParts", id: str) -> None:  # noqa: A002 - the run's own word
        self.id = id
        self._parts = parts

    def __repr__(self) -> str:
        return f"<DagRun {self.id}>"

    def status(self) -> DagRunView:
        """Return how the run stands."""
        return run_view(self._parts.reading.run(self.id))

    def nodes(self) -> list[NodeView]:
        """Return its nodes, parents first."""
        self._parts.reading.run(self.id)
        return node_views(self._parts.reading.nodes(self.id))

    def graph(self) -> list[Drawn]:
        """Return its nodes as ``celery_tw.dags.drawing`` draws them."""
        return [Drawn(node.key, node.after, node.state) for node in self.nodes()]

    def result(self, key: str) -> Any:
        """Return the result of the node *key*; None while it has none. Raises `UnknownNode`, and `ResultGone`."""
        _, given = self._parts.reading.result(self.id, self._known(key))
        return value_of(given, self._parts.app)

    def wait(self, timeout: float | None = None) -> DagRunView:
        """Return how the run stands once it has ended; raises TimeoutError after *timeout* seconds."""
        deadline_s = None if timeout is None else time.monotonic() + timeout
        pause_s = SOONEST_S
        while self._parts.reading.state(self.id) not in RUN_ENDED:
            if deadline_s is not None and time.monotonic() > deadline_s:
                view = self.status()
                raise TimeoutError(f"the run {self.id} is still {view.state} after {timeout:g} s: {view.counts}")
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, LATEST_S)
        return self.status()

    def pause(self) -> DagRunView:
        """Let no further node begin until the run is resumed, be it days; what runs, runs on."""
        return self._changed(self._parts.control.pause(self.id, now_ms=self._now_ms()))

    def resume(self) -> DagRunView:
        """Let nodes begin again."""
        return self._changed(self._parts.control.resume(self.id, now_ms=self._now_ms()))

    def cancel(self) -> DagRunView:
        """Let no further node begin; those that run are asked to stop, which tasks with one of our bases do."""
        changed = self._parts.control.cancel(self.id, now_ms=self._now_ms())
        for node_id in changed.running:
            self._ask_to_stop(str(node_id))
        return self._changed(changed)

    def retry(self, key: str | None = None) -> DagRunView:
        """Run the node *key* again and all that comes after it; without a key, each node that failed, is blocked or was cancelled.

        Raises `UnknownNode`, and `InvalidDag` for a node that has not ended.
        """
        return self._changed(self._parts.control.retry(self.id, None if key is None else self._known(key), now_ms=self._now_ms()))

    def mark_done(self, key: str, result: Any = None) -> DagRunView:
        """Take the node *key* for succeeded with *result*, as if it had run; what was blocked or skipped because of it goes on.

        Raises `UnknownNode`, and `InvalidDag` for a node that has succeeded, or a result that is no JSON or too large.
        """
        try:
            text = dumps(result)
        except (TypeError, ValueError) as error:
            raise InvalidDag(f"the result of node {key!r} cannot be written as JSON: {error}") from error
        if len(text) > LARGEST_RESULT:
            raise InvalidDag(f"the result of node {key!r} takes {len(text):,} bytes; at most {LARGEST_RESULT:,} are stored")
        return self._changed(self._parts.control.mark_done(self.id, self._known(key), text, now_ms=self._now_ms()))

    def _known(self, key: str) -> str:
        """Return *key* if a node can have it, which is more than any database can be asked."""
        if not key.isprintable():
            raise UnknownNode(self.id, key)
        return key

    def _changed(self, changed: "Changed") -> DagRunView:
        if changed.entry is not None:
            self._parts.open_runs.follow(changed.entry, self.id, changed.state)
        self._parts.sending.send(changed.released)
        return self.status()

    def _ask_to_stop(self, task_id: str) -> None:
        app = self._parts.app
        try:
            app.timewheel.cancel(task_id, "its DAG run was cancelled")
        except (CeleryTWError, ImproperlyConfigured):  # without a timetable the workers can still be asked
            app.control.revoke(task_id)

    def _now_ms(self) -> int:
        return self._parts.clock.wall_ms()
