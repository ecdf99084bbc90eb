"""Recording: writes a ledger from inside a worker, for any task, by Celery's signals.

::

    # in the module of the app, or in one that only the test's workers import
    record_runs(Ledger(os.environ["RUN_LEDGER"]))

``received`` is written by the worker's main process, ``started`` and ``ended`` by the one that runs the body, also when the body fails.
Nothing is connected to Celery's publish signals: a receiver there would make the scheduler take another way than without the test.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any

from celery import signals
from celery.app.task import Context

from celery_tw.integration.messages.identity_headers import MID
from celery_tw.integration.runs.slots import slot
from celery_tw.integration.timewheel import TimeWheel
from celery_tw.testing.ledger import Ledger, Line, What


def record_runs(ledger: Ledger) -> Callable[[], None]:
    """Write a line for each task that this process and its children receive, start and end; return what stops that."""

    def on_received(request: Any = None, **_: Any) -> None:
        ledger.append(line_of(What.RECEIVED, Context(request.request_dict)))

    def on_started(task: Any = None, **_: Any) -> None:
        ledger.append(line_of(What.STARTED, task.request))

    def on_ended(task: Any = None, **_: Any) -> None:
        ledger.append(line_of(What.ENDED, task.request))

    receivers = ((signals.task_received, on_received), (signals.task_prerun, on_started), (signals.task_postrun, on_ended))
    for signal, receiver in receivers:
        signal.connect(receiver, weak=False)

    def stop() -> None:
        for signal, receiver in receivers:
            signal.disconnect(receiver)

    return stop


def line_of(what: What, request: Any, *, value: Any = None) -> Line:
    """Return a line, written now, of what happens to *request*: ``self.request`` of a bound task."""
    fired_for = slot(request)
    return Line(
        what=what,
        at_ms=time.time_ns() // 1_000_000,
        entry=_header(request, "periodic_task_name"),
        slot_ms=None if fired_for is None else round(fired_for.timestamp() * 1000),
        mid=_header(request, MID),
        task=request.task,
        task_id=request.id,
        value=value,
    )


def recorded_skips(timewheel: TimeWheel, names: Iterable[str]) -> list[Line]:
    """Return what the histories of those entries tell of slots that were skipped; append it to the ledger, or check it with the rest."""
    return [
        Line(
            what=What.SKIPPED,
            at_ms=time.time_ns() // 1_000_000,
            entry=name,
            slot_ms=round(each.slot.timestamp() * 1000),
            until_ms=round((each.until or each.slot).timestamp() * 1000),
            reason=each.reason or "",
        )
        for name in names
        for each in timewheel.history(name, limit=10_000)
        if each.status == "skipped"
    ]


def _header(request: Any, name: str) -> Any:
    return getattr(request, name, None) or (request.headers or {}).get(name)
