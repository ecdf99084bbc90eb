"""Surroundings: what else has a say in a message, besides its task, arguments and options.

A template is a message made once and filled in again and again, so nothing may want to see, change or divert each
publish. ``objection`` looks for whoever would: receivers of publish signals, task-sent events, router functions,
replaced functions (error trackers and tracers wrap ``apply_async`` and ``publish``). ``fingerprint`` is what a
template was made under, and is cheap enough to be compared before each batch.

A function counts as replaced unless it is a plain function whose code comes from the file it belongs to: wrappers
copy names, not code.
"""

import os
from inspect import getattr_static
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import celery.app.amqp
import celery.app.base
import celery.app.routes
import celery.app.task
import kombu.messaging
from celery import signals

SIGNALS = ("before_task_publish", "after_task_publish", "task_sent")

SETTINGS = (
    "task_always_eager",
    "task_compression",
    "task_default_delivery_mode",
    "task_default_exchange",
    "task_default_priority",
    "task_default_queue",
    "task_default_routing_key",
    "task_protocol",
    "task_queue_max_priority",
    "task_queues",
    "task_repr_maxlevels",
    "task_routes",
    "task_send_sent_event",
    "task_serializer",
    "broker_transport_options",
    "broker_url",
    "broker_write_url",
)

_OURS = str(Path(__file__).parent)


def fingerprint(app: Any) -> tuple[Any, ...]:
    """Return a value that is equal as long as nothing has changed that decides how messages are rendered."""
    changes, amqp = app.conf.changes, app.amqp
    remembered = vars(amqp)
    return (
        os.getpid(),
        len(app._tasks),
        *[changes.get(name) for name in SETTINGS],
        *[bool(getattr(signals, name).receivers) for name in SIGNALS],
        amqp._rtable,
        remembered.get("router"),
        remembered.get("send_task_message"),
        remembered.get("create_task_message"),
        vars(app).get("send_task"),
        type(app).send_task,
        celery.app.task.Task.apply_async,
        amqp.Producer.publish,
        amqp.Producer._publish,
    )


def objection(app: Any) -> str | None:
    """Return why no message of *app* can be made from a template, or None."""
    return _listener(app) or _router(app) or _form(app) or _replaced(app)


def task_objection(task: Any) -> str | None:
    """Return why the messages of *task* in particular cannot be made from a template, or None; *task* may be None, unregistered."""
    if task is None:
        return None
    for name in ("apply_async", "shadow_name", "_get_exec_options"):
        if name in vars(task) or not _is_original(getattr_static(type(task), name), celery.app.task):
            return f"{name} of its task is overridden"
    if getattr(task, "_dump_pydantic_arguments", None) is not None or getattr(task, "__v2_compat__", False):
        return "its task converts the arguments"
    return None


def _listener(app: Any) -> str | None:
    for name in SIGNALS:
        if getattr(signals, name).receivers:
            return f"{name} has receivers"
    return "task_send_sent_event is on" if app.conf.task_send_sent_event else None


def _router(app: Any) -> str | None:
    if type(app.amqp.router) is not celery.app.routes.Router:
        return "the app has a router class of its own"
    if not all(type(route) is celery.app.routes.MapRoute for route in app.amqp.routes):
        return "task_routes holds a function or an object"
    return None


def _form(app: Any) -> str | None:
    if app.conf.task_protocol != 2:
        return f"task_protocol is {app.conf.task_protocol}"
    return "task_always_eager is on" if app.conf.task_always_eager else None


def _replaced(app: Any) -> str | None:
    originals: list[tuple[str, Any, ModuleType]] = [
        ("app.send_task", _sender(app), celery.app.base),
        ("amqp.send_task_message", app.amqp.send_task_message, celery.app.amqp),
        ("amqp.as_task_v2", getattr(app.amqp.create_task_message, "__func__", None), celery.app.amqp),
        ("Producer.publish", getattr_static(app.amqp.Producer, "publish"), kombu.messaging),
        ("Producer._publish", getattr_static(app.amqp.Producer, "_publish"), kombu.messaging),
    ]
    return next((f"{name} is replaced" for name, function, home in originals if not _is_original(function, home)), None)


def _sender(app: Any) -> Any:
    """Return the function that sends the app's tasks in the end; our own in its place calls what it replaces."""
    sender = vars(app).get("send_task")
    while hasattr(sender, "replaces"):
        sender = sender.replaces
    return sender or getattr_static(type(app), "send_task")


def _is_original(function: Any, home: ModuleType) -> bool:
    if type(function) is not FunctionType:
        return False
    return function.__code__.co_filename in (home.__file__,) or function.__code__.co_filename.startswith(_OURS)
