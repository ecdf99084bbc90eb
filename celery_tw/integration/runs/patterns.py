"""Patterns: guards for tasks that name no base of ours, by the names of the tasks.

``TimeWheel(app, guard={"shop.import_*": {"lock": "import:{account}"}, "shop.*": {"once": True}})``

Each task whose name matches a pattern gets a class of its own, made of `Task` and the class that it had, and the options of the pattern: it
is then what it would be with ``base=celery_tw.Task``. Of several patterns that match, a later one overrides an earlier one's options; what
the task's own decorator says stands. Tasks of Celery's own are left out.

A task comes to be in many ways: a decorator, ``shared_task``, ``register_task``, a module that is imported late. All of them end in
``Task.bind``, which applies the app's annotations; so the patterns are an annotation, put before those of the settings, which know names
but no patterns. A task that was bound before is looked for when the time wheel is made, and once more when the app, or a worker, is ready.

A class with a ``__call__`` of its own (an application context, a transaction) keeps it: it is called, with the guards held, in place of
``run``. A class with a ``Request`` of its own cannot be guarded.
"""

import logging
from collections.abc import Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

import celery
from celery.app.annotations import prepare, resolve_all
from celery.app.trace import task_has_custom

from celery_tw.errors import ImproperlyConfigured
from celery_tw.integration.runs.guarding import OPTIONS, is_given
from celery_tw.integration.runs.retrying import policy_of
from celery_tw.integration.runs.task import Task

logger = logging.getLogger(__name__)

Patterns = Mapping[str, Mapping[str, Any]]

OF_THE_MESSAGE = ("acks_late", "reject_on_worker_lost")
KNOWN = ("once", *OPTIONS, *OF_THE_MESSAGE)
CELERYS_OWN = "celery."


class GuardPatterns:
    """The patterns of one app; an annotation of its tasks."""

    def __init__(self, app: Any, patterns: Patterns) -> None:
        _check(patterns)
        self.app = app
        self.patterns = patterns

    def install(self) -> None:
        """Guard the tasks that the app has, and those to come; raises ImproperlyConfigured for one that cannot be guarded."""
        vars(self.app)["annotations"] = (self,)
        self.app.on_after_finalize.connect(self._when_finalized, weak=False)
        self.guard_all()

    def _when_finalized(self, **_: Any) -> None:
        self.guard_all()

    def guard_all(self) -> None:
        """Guard every task that has come to be without its being noticed."""
        for task in list(self.app._tasks.values()):
            if type(task).__bound__:
                self._guard(task)

    def warn_unmatched(self) -> None:
        """Say which patterns match no task: they may be misspelt."""
        for pattern in self.patterns:
            if not any(self._matches(pattern, name) for name in self.app.tasks):
                logger.warning("guard: no task matches the pattern %r", pattern)

    # What Celery asks an annotation

    def annotate(self, task: type) -> None:
        """Do for the class of a task what the annotations of the settings say, and guard it."""
        theirs = prepare(self.app.conf.task_annotations)
        for annotation in resolve_all(theirs, task):
            for key, value in annotation.items():
                if key.startswith("@"):
                    task.add_around(key[1:], value)  # type: ignore[attr-defined]
                else:
                    setattr(task, key, value)
        registered = self.app._tasks.get(getattr(task, "name", None))
        if type(registered) is task:
            self._guard(registered)

    def annotate_any(self) -> None:
        """Say nothing more: `annotate` has said it."""

    # Guarding

    def _guard(self, task: Any) -> None:
        options: dict[str, Any] = {}
        matching = [pattern for pattern in self.patterns if self._matches(pattern, task.name)]
        if not matching or vars(type(task)).get("tw_patterns") == matching:
            return
        for pattern in matching:
            options |= self.patterns[pattern]
        options.pop("once", None)
        _refuse_unfit(task, matching[-1])
        before = type(task)
        task.__class__ = _guarded(before, options, matching)
        try:
            _ = task.guarding, policy_of(task)
        except ImproperlyConfigured as error:
            task.__class__ = before
            raise ImproperlyConfigured(f"guard, pattern {matching[-1]!r}: {error}") from error
        task.on_bound(self.app)

    def _matches(self, pattern: str, name: str) -> bool:
        return fnmatchcase(name, pattern) and (pattern.startswith(CELERYS_OWN) or not name.startswith(CELERYS_OWN))


def _guarded(before: type, options: Mapping[str, Any], matching: list[str]) -> type:
    """Return the class *before* with our base and *options*; its own options, and a call of its own, stand."""
    own = {option: vars(before)[option] for option in OPTIONS if is_given(before, option)}
    if vars(before).get("tw_retry") is not None:
        own["retry"] = vars(before)["tw_retry"]
    body: dict[str, Any] = {**options, **own, "tw_patterns": matching, "abstract": False, "__module__": before.__module__}
    if issubclass(before, Task):
        return type(before.__name__, (before,), body)
    if task_has_custom(before.__new__(before), "__call__"):
        body["tw_body"] = _body_of(before)
    return type(before.__name__, (Task, before), body)


def _body_of(before: Any) -> Any:
    """Return a body that is the ``__call__`` of the class *before*; what it leads to in `celery.Task` runs in the same request."""

    def tw_body(self: Any, *args: Any, **kwargs: Any) -> Any:
        self.request._protected = 0
        return before.__call__(self, *args, **kwargs)

    return tw_body


def _refuse_unfit(task: Any, pattern: str) -> None:
    if task.name.startswith(CELERYS_OWN):
        raise ImproperlyConfigured(f"guard, pattern {pattern!r}: {task.name} is Celery's own and cannot be guarded")
    if not isinstance(task, Task) and task.Request != celery.Task.Request:
        raise ImproperlyConfigured(
            f"guard, pattern {pattern!r}: the task {task.name} has a Request class of its own, {task.Request!r}: expected Celery's"
        )


def _check(patterns: Any) -> None:
    """Raise ImproperlyConfigured, naming the pattern, for what can be no guard."""
    if not isinstance(patterns, Mapping):
        raise ImproperlyConfigured(f"guard: expected a mapping of patterns to options, got {patterns!r}")
    for pattern, options in patterns.items():
        if not isinstance(pattern, str) or not pattern:
            raise ImproperlyConfigured(f"guard: expected a pattern of task names such as 'shop.*', got {pattern!r}")
        if not isinstance(options, Mapping):
            raise ImproperlyConfigured(f"guard, pattern {pattern!r}: expected a mapping of options, got {options!r}")
        for option in options:
            if option not in KNOWN:
                near = get_close_matches(str(option), KNOWN, n=1)
                advice = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(KNOWN)}"
                raise ImproperlyConfigured(f"guard, pattern {pattern!r}: there is no option {option!r}: {advice}")
        if options.get("once", True) is not True:
            raise ImproperlyConfigured(f"guard, pattern {pattern!r}, option once: expected True, got {options['once']!r}")
