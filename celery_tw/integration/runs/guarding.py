"""Guarding: which guards a task asks for, read from its options and checked when the task is made known.

=====================  ====================================================================================================
option                 meaning
=====================  ====================================================================================================
``lock``               a key template: one run at a time under the key, in all tasks that name it
``lock_busy``          "wait" (default), "skip" or "fail"
``max_concurrency``    so many runs of the task at a time, over all workers
``concurrency_key``    a key template: so many under each key, in all tasks that name it
``ordering_key``       a key template: runs start in the order in which they were sent, in all tasks that name it
``idempotency_key``    a key template: a second task with the key has the first one's result
``unique``             True, or a key template: not sent again while one waits or runs
``retry``              a `Retry`: when a body that fails is run again
``cancel_grace``       seconds in which a run that is cancelled has to stop before its process is ended; None: it may take its time
=====================  ====================================================================================================
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from celery import bootsteps

from celery_tw.core.retry import Retry
from celery_tw.errors import ImproperlyConfigured
from celery_tw.runtime.concurrency import slot
from celery_tw.runtime.idempotency import only_once
from celery_tw.runtime.key_templates import KeyTemplate, short
from celery_tw.runtime.lock import CHOICES, lock
from celery_tw.runtime.ordering import turn
from celery_tw.runtime.unique import alone
from celery_tw.stores.redis.runs.guards import Guard

TEMPLATES = ("lock", "concurrency_key", "ordering_key", "idempotency_key")
OPTIONS = (*TEMPLATES, "lock_busy", "max_concurrency", "unique", "cancel_grace", "retry")


@dataclass(frozen=True)
class Guarding:
    """The guards of one task."""

    task: str
    templates: Mapping[str, KeyTemplate]
    max_concurrency: int | None = None
    unique_always: bool = False

    @cached_property
    def any(self) -> bool:
        """Whether there are any."""
        return bool(self.templates or self.max_concurrency or self.unique_always)

    def guards(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Guard]:
        """Return what a run with these arguments needs; a known result first, for it spares the rest."""
        if not self.any:
            return []
        keys = {option: template.fill(args, kwargs) for option, template in self.templates.items()}
        guards = []
        if "idempotency_key" in keys:
            guards.append(only_once(f"{self.task}:{keys['idempotency_key']}"))
        if "ordering_key" in keys:
            guards.append(turn(keys["ordering_key"]))
        if "lock" in keys:
            guards.append(lock(keys["lock"]))
        if self.max_concurrency:
            guards.append(slot(keys.get("concurrency_key", self.task), limit=self.max_concurrency))
        if unique := self.unique_key(args, kwargs):
            guards.append(alone(unique))
        return guards

    def unique_key(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
        """Return the key under which the task is unique, or None."""
        if "unique" in self.templates:
            return f"{self.task}:{self.templates['unique'].fill(args, kwargs)}"
        if self.unique_always:
            return short(f"{self.task}:{json.dumps([list(args), dict(kwargs)], sort_keys=True, default=repr)}")
        return None

    def ordering_key(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
        """Return the key in whose order the task runs, or None."""
        template = self.templates.get("ordering_key")
        return template.fill(args, kwargs) if template else None


def guards_of(task: Any, args: Any, kwargs: Any) -> list[Guard]:
    """Return the guards of a task that did not run; none when its arguments do not fit."""
    try:
        return list(task.guarding.guards(tuple(args or ()), dict(kwargs or {})))
    except TypeError:
        return []


def read_guarding(task: Any) -> Guarding:
    """Return the guards that *task* asks for; raises ImproperlyConfigured, naming the task and the option."""
    templates = {option: _template(task, option) for option in TEMPLATES if getattr(task, option) is not None}
    unique = task.unique
    if isinstance(unique, str):
        templates["unique"] = _template(task, "unique")
    elif unique not in (None, True, False):
        raise _wrong(task, "unique", "True or a key template", unique)
    if task.lock_busy not in CHOICES:
        raise _wrong(task, "lock_busy", f"one of {', '.join(map(repr, CHOICES))}", task.lock_busy)
    limit = task.max_concurrency
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        raise _wrong(task, "max_concurrency", "a whole number from 1", limit)
    if "concurrency_key" in templates and limit is None:
        raise _wrong(task, "max_concurrency", "a whole number beside concurrency_key", limit)
    grace = task.cancel_grace
    if grace is not None and (not isinstance(grace, int | float) or isinstance(grace, bool) or grace < 0):
        raise _wrong(task, "cancel_grace", "a number of seconds, 0 or more", grace)
    return Guarding(task.name, templates, limit, unique is True)


class GuardsNeedBase(bootsteps.Step):
    """Keeps a worker from starting whose app has guards that nothing would heed."""

    def create(self, worker: Any) -> None:
        patterns = worker.app.timewheel.guard
        if patterns is not None:
            patterns.guard_all()
            patterns.warn_unmatched()
        refuse_guards_without_base(worker.app)


def refuse_guards_without_base(app: Any) -> None:
    """Raise ImproperlyConfigured for a task of *app* that has a guard's option in its decorator and not one of our bases."""
    for name, task in app.tasks.items():
        given = [] if getattr(task, "tw_guarded", False) else [option for option in OPTIONS if is_given(type(task), option)]
        if given:
            raise ImproperlyConfigured(
                f"the task {name} has the option {given[0]!r}, which needs the base celery_tw.Task or celery_tw.LongTask: "
                f"expected @app.task(base=celery_tw.Task, {given[0]}=…), or a pattern of TimeWheel(app, guard=…)"
            )


def is_given(task_class: type, option: str) -> bool:
    """Return whether the decorator of a task names *option* with a value of ours; other libraries have methods of such names."""
    value = vars(task_class).get(option)
    return isinstance(value, str | int | float | Retry) and value is not False


def _template(task: Any, option: str) -> KeyTemplate:
    text = getattr(task, option)
    if not isinstance(text, str) or not text:
        raise _wrong(task, option, "a key template such as 'import:{account}'", text)
    try:
        return KeyTemplate(text, task.run)
    except ValueError as error:
        raise ImproperlyConfigured(f"the task {task.name}, option {option}: {error}") from error


def _wrong(task: Any, option: str, expected: str, value: Any) -> ImproperlyConfigured:
    return ImproperlyConfigured(f"the task {task.name}, option {option}: expected {expected}, got {value!r}")
