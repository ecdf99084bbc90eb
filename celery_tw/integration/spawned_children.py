"""Spawned children: a pool that spawns its processes gives them a copy of the app, made from a pickle.

What was put on the app's instance is not in the pickle, and the module's own app, on which ``TimeWheel(app)`` is run again when the child
imports it, is not the one that tasks are sent with. So the copy is given a time wheel of its own when the child starts. A forked child
has the very app of its parent, and nothing is done.

Tasks of a module that such a child imports belong to the copy, and Celery prepares them before it says that the process has started. What
has to be there by then is given to the copy when the module's own app gets it (`copies_of`).
"""

from collections.abc import Callable
from typing import Any

from celery import current_app
from celery._state import _get_active_apps
from celery.app import base
from celery.signals import worker_process_init

_installs: dict[str | None, Callable[[Any], object]] = {}


def install_in_children(app: Any, install: Callable[[Any], object]) -> None:
    """Let *install* be called, in each pool process, with the copy of *app* that it works with."""
    _installs[app.main] = install
    worker_process_init.connect(_install_here, dispatch_uid="celery_tw.spawned_children")


def copies_of(app: Any) -> list[Any]:
    """Return the copies of *app* in a spawned process; none anywhere else."""
    return [other for other in _get_active_apps() if base.USING_EXECV and other is not app and other.main == app.main]


def _install_here(**_: Any) -> None:
    app = current_app._get_current_object()
    install = _installs.get(app.main)
    if install is not None:
        install(app)
