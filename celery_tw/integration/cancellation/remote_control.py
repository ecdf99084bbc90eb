"""Remote control: Celery's revoke, sent by this process, reaches what waits in the timetable before it goes out to the workers.

Everything that revokes ends in ``app.control.broadcast``: ``AsyncResult.revoke``, ``GroupResult.revoke``, ``control.revoke``,
``control.terminate``, ``control.revoke_by_stamped_headers``, ``celery control revoke``. So that is what is wrapped, on the one control
object of the app, calling the class's own late, so that later patches count. The workers are told for which namespace the timetable has
been asked already (`DONE`), and leave it alone.

Whatever goes wrong with the timetable, the broadcast goes out: a revoke does at least what it does in Celery.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from celery.utils.imports import instantiate

from celery_tw.integration.cancellation.cancelling import Canceller

logger = logging.getLogger(__name__)

DONE = "tw_cancelled"
"""The argument of a broadcast that names the namespace whose timetable has been asked."""


@dataclass(frozen=True, slots=True)
class ControlMaker:
    """Stands in for the app's class of control, which reads the settings when it is made: the control is wrapped when it is first used.

    It is pickled with the app, in place of the class that it holds.
    """

    control_class: Any

    def __call__(self, *, app: Any) -> Any:
        return reaching_the_timetable(instantiate(self.control_class, app=app), app)


def install(app: Any) -> None:
    """Let what *app* revokes reach the timetable; a second time does nothing."""
    if "control" in vars(app):
        reaching_the_timetable(app.control, app)
    elif not isinstance(app.control_cls, ControlMaker):
        app.control_cls = ControlMaker(app.control_cls)


def reaching_the_timetable(control: Any, app: Any) -> Any:
    """Return *control* with a broadcast that asks the timetable of *app* first."""
    patched = vars(control).get("broadcast")
    if hasattr(patched, "reaches_timetable"):
        return control

    def broadcast(command: str, arguments: Mapping[str, Any] | None = None, *args: Any, **options: Any) -> Any:
        arguments = {**(arguments or {}), **reach(app, command, {**options, **(arguments or {})})}
        if patched is not None:
            return patched(command, arguments, *args, **options)
        return type(control).broadcast(control, command, arguments, *args, **options)

    broadcast.reaches_timetable = True  # type: ignore[attr-defined]
    control.broadcast = broadcast
    return control


def reach(app: Any, command: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Take off the timetable of *app* what a control command revokes; return what the workers have to be told besides."""
    if command not in REVOKING:
        return {}
    try:
        return {DONE: ask_timetable(app, command, arguments)}
    except Exception as error:  # settings, the server, a record: none of it may keep a revoke from the workers
        warn_unasked(command, error)
        return {}


def ask_timetable(app: Any, command: str, arguments: Mapping[str, Any]) -> str:
    """Take off what a control command revokes, unless its sender has; return the namespace, or raise whatever came in the way."""
    canceller = app.timewheel.canceller
    if arguments.get(DONE) != canceller.namespace:
        REVOKING[command](canceller, arguments)
    return str(canceller.namespace)


def warn_unasked(command: str, error: Exception | str) -> None:
    """Say that a revoke went to the workers only."""
    why = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    logger.warning("%s: the timetable was not asked, only the workers are: %s", command, why)


def _by_id(canceller: Canceller, arguments: Mapping[str, Any]) -> None:
    given = arguments.get("task_id") or ()
    canceller.take_off(given if isinstance(given, list | tuple | set | frozenset) else [given])


def _by_stamps(canceller: Canceller, arguments: Mapping[str, Any]) -> None:
    canceller.take_off_stamped(arguments.get("headers") or {})


REVOKING: Mapping[str, Callable[[Canceller, Mapping[str, Any]], None]] = {
    "revoke": _by_id,
    "terminate": _by_id,
    "revoke_by_stamped_headers": _by_stamps,
}
"""The control commands that revoke, each with what it means for the timetable."""
