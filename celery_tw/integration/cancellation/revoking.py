"""Revoking: a worker that is told to revoke looks into the timetable too.

Flower, ``celery control`` of another project and any program without the plug-in broadcast their revokes straight to the workers. Each
worker of an app with the plug-in hands them on, unless the sender has asked the timetable itself. That every worker does so is harmless:
the first one takes the task off, the others find nothing.

The commands are replaced in Celery's panel when a worker starts, for all apps of the process; each command looks up the app that it was
called for. A search by stamped headers may take a while and runs beside the worker's event loop, the other commands in it: one short call.
"""

from collections.abc import Callable
from functools import wraps
from threading import Thread
from typing import Any

from celery import bootsteps

from celery_tw.clock import SystemClock
from celery_tw.errors import StoreUnavailable
from celery_tw.integration.cancellation.remote_control import DONE, REVOKING, ask_timetable, warn_unasked
from celery_tw.integration.deferring.circuit_breaker import CircuitBreaker

SEARCHING = frozenset({"revoke_by_stamped_headers"})
REST_MS = 5000

Handler = Callable[..., Any]


class RevokingPanel(bootsteps.Step):
    """Replaces the commands in the worker that is about to start."""

    def create(self, worker: Any) -> None:
        from celery.worker.control import Panel  # noqa: PLC0415 - it takes the whole worker with it, which only a worker has loaded

        asking = Asking()
        for command in REVOKING:
            handler = Panel.data[command]
            if not hasattr(handler, "reaches_timetable"):
                Panel.data[command] = _reaching(command, handler, asking)


def install(app: Any) -> None:
    """Let the workers of *app* hand revokes on to the timetable."""
    app.steps["worker"].add(RevokingPanel)


class Asking:
    """Hands revokes on; a store that does not answer is left alone for a while, so that it does not stop the worker's event loop."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        self._breaker = CircuitBreaker(first_ms=REST_MS, longest_ms=REST_MS)

    def ask(self, app: Any, command: str, arguments: dict[str, Any]) -> None:
        """Take off what a control command revokes, or say why not."""
        now_ms = self._clock.boot_ms()
        if not self._breaker.allows(now_ms):
            warn_unasked(command, f"it did not answer less than {REST_MS / 1000:g} s ago")
            return
        try:
            ask_timetable(app, command, arguments)
            self._breaker.succeed()
        except Exception as error:  # settings, the server, a record: none of it may keep a revoke from this worker
            if isinstance(error, StoreUnavailable):
                self._breaker.fail(self._clock.boot_ms())
            else:
                self._breaker.succeed()
            warn_unasked(command, error)


def _reaching(command: str, original: Handler, asking: Asking) -> Handler:
    @wraps(original)
    def handler(state: Any, **arguments: Any) -> Any:
        if "timewheel" in vars(state.app):
            _ask(asking, state.app, command, dict(arguments))
        arguments.pop(DONE, None)
        return original(state, **arguments)

    handler.reaches_timetable = True  # type: ignore[attr-defined]
    return handler


def _ask(asking: Asking, app: Any, command: str, arguments: dict[str, Any]) -> None:
    if command in SEARCHING:
        Thread(target=asking.ask, args=(app, command, arguments), name="tw-revoke", daemon=True).start()
    else:
        asking.ask(app, command, arguments)
