"""Rendering: from an entry to the commands that put its message into the broker.

Two ways lead there. A plain task is made from a template, some three microseconds a fire (``templates.py``);
everything that wants Celery to be asked each time is (``celery_rendering.py``). Which way an entry goes, and why, is
``path`` and ``reason`` of its rendering.

A rendering is right as long as ``Renderer.fingerprint()`` stays what it was; then the entry is prepared anew.
Templates are shared among entries of the same task and options.
"""

import json
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from celery_tw.core.command import Fire
from celery_tw.core.definition import Definition
from celery_tw.errors import RenderFailed
from celery_tw.integration.messages.argument_repr import ReprLimits
from celery_tw.integration.messages.celery_rendering import CeleryRendering
from celery_tw.integration.messages.delivery_tags import DeliveryTags
from celery_tw.integration.messages.surroundings import fingerprint, objection, task_objection
from celery_tw.integration.messages.templates import Template, TemplateRendering, cut_template, own_values

PLAIN_OPTIONS = frozenset(
    {
        "delivery_mode",
        "exchange",
        "headers",
        "ignore_result",
        "lane",
        "priority",
        "queue",
        "routing_key",
        "serializer",
        "shadow",
        "soft_time_limit",
        "time_limit",
    }
)
"""The options that make the same message at every fire."""

DEFAULT_REPR_LEVELS = 3
"""How deep Celery shows arguments in versions without a setting for it."""

TEMPLATES_KEPT = 1000
"""Options that differ from entry to entry make a template each; past so many, all are made anew."""

Rendering = TemplateRendering | CeleryRendering


class Renderer:
    """Prepares the messages of one app's entries; those for one of the *fair* queues are given their lanes."""

    def __init__(self, app: Any, *, fair: frozenset[str] = frozenset()) -> None:
        self.app = app
        self.fair = fair
        self._tags = DeliveryTags()
        self._fingerprint: tuple[Any, ...] = ()
        self._objection: str | None = None
        self._limits = ReprLimits(0, 0, None)
        self._task_objections: dict[str, str | None] = {}
        self._templates: dict[tuple[str, str, bool], Template | str] = {}

    def fingerprint(self) -> tuple[Any, ...]:
        """Return a value that changes when renderings prepared earlier are no longer right."""
        self._follow_the_surroundings()
        return self._fingerprint

    def prepare(self, definition: Definition, *, static: Any = None) -> Rendering:
        """Return the rendering of *definition*; *static* is its live settings entry when it cannot be written down whole.

        Raises RenderFailed when its arguments do not fit its task, or Celery refuses to send it.
        """
        self._follow_the_surroundings()
        signature = definition.signature
        reason = "its arguments are in the settings" if static is not None else self._reason(signature)
        if reason is None:
            template = self._template(definition.name, signature, counted=definition.counted)
            if isinstance(template, Template):
                return self._filled(definition.name, signature, template)
            reason = template
        return CeleryRendering(self.app, signature, reason=reason, static=static, fair=self.fair)

    def _follow_the_surroundings(self) -> None:
        if fingerprint(self.app) == self._fingerprint:
            return
        self._templates.clear()
        self._task_objections.clear()
        self.app.finalize(auto=True)
        self._objection = objection(self.app)
        amqp, levels = self.app.amqp, self.app.conf.get("task_repr_maxlevels", DEFAULT_REPR_LEVELS)
        self._limits = ReprLimits(amqp.argsrepr_maxsize, amqp.kwargsrepr_maxsize, levels)
        self._fingerprint = fingerprint(self.app)  # looking has made Celery build its router and sender

    def _reason(self, signature: Mapping[str, Any]) -> str | None:
        """Return why the message of *signature* has to be made by Celery at each fire, or None."""
        if signature.get("subtask_type"):
            return "it is a canvas"
        for option in signature.get("options") or ():
            if option not in PLAIN_OPTIONS:
                return f"it has the option {option!r}"
        return self._objection or self._task_objection(signature["task"])

    def _task_objection(self, name: str) -> str | None:
        if name not in self._task_objections:
            self._task_objections[name] = task_objection(self.app.tasks.get(name))
        return self._task_objections[name]

    def _template(self, entry_name: str, signature: Mapping[str, Any], *, counted: bool) -> Template | str:
        """Return the template for a task and its options, or why there is none."""
        try:
            key = signature["task"], json.dumps(signature.get("options") or {}), counted
        except (TypeError, ValueError):
            return "its options are not JSON"
        if key not in self._templates:
            if len(self._templates) >= TEMPLATES_KEPT:
                self._templates.clear()
            self._templates[key] = self._cut(signature, Fire(str(uuid4()), 1_700_000_000_000, entry_name, counted=counted))
        return self._templates[key]

    def _cut(self, signature: Mapping[str, Any], fire: Fire) -> Template | str:
        commands = CeleryRendering(self.app, signature, reason="", fair=self.fair).commands(fire)
        if len(commands) != 1 or not commands[0].carries_a_message:
            return "it takes more than one push"
        template = cut_template(commands[0], fire)
        if isinstance(template, str):
            return template
        tag = json.loads(commands[0].payload)["properties"]["delivery_tag"].encode()
        if self._filled(fire.entry_name, signature, template).message(fire, tag) != commands[0].payload:
            return "Celery makes its message in a way of its own"
        return template

    def _filled(self, name: str, signature: Mapping[str, Any], template: Template) -> TemplateRendering:
        args, kwargs = list(signature.get("args") or ()), dict(signature.get("kwargs") or {})
        self._refuse_unfit(name, signature["task"], args, kwargs)
        own = own_values(
            name,
            args,
            kwargs,
            encoding=template.encoding,
            limits=self._limits,
        )
        return TemplateRendering(template, own, self._tags.take)

    def _refuse_unfit(self, name: str, task_name: str, args: list[Any], kwargs: dict[str, Any]) -> None:
        """Raise RenderFailed when the task's signature does not take the arguments, as ``apply_async`` would."""
        task = self.app.tasks.get(task_name)
        if task is None or not task.typing:
            return
        try:
            task.__header__(*args, **kwargs)
        except TypeError as error:
            raise RenderFailed(name, error) from error
