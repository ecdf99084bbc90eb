"""Workshop: brings stored definitions to life for the leader, with what only this process knows: its app and its settings."""

from collections.abc import Mapping
from typing import Any

from celery_tw.core.allowed import AllowedTasks
from celery_tw.core.bounds import Bounded
from celery_tw.core.definition import Definition
from celery_tw.errors import InvalidEntry
from celery_tw.integration.broker import fingerprint
from celery_tw.integration.entries.static_entries import Static, required_static
from celery_tw.integration.messages.rendering import Renderer
from celery_tw.integration.messages.rerendering import render_for
from celery_tw.integration.schedules.written import recurrence_of
from celery_tw.scheduler.ports import Prepared

ALL = AllowedTasks()


class CeleryWorkshop:
    """The engine's workshop for one app; *statics* are the settings entries of this process, by name, *allowed* what it may send."""

    def __init__(self, app: Any, renderer: Renderer, *, statics: Mapping[str, Static], allowed: AllowedTasks = ALL) -> None:
        self.app = app
        self.renderer = renderer
        self.statics = statics
        self.allowed = allowed
        self._broker_fingerprint: str | None = None

    def prepare(self, definition: Definition) -> Prepared:
        """Return the definition with its slots and its message; raises an error of celery-tw when this process cannot fire it."""
        if objection := self.allowed.objection(definition.signature):
            raise InvalidEntry(f"entry {definition.name!r}: {objection}")
        static = required_static(self.statics, definition) if definition.local else None
        live = static.schedule if static is not None else None
        inner = recurrence_of(definition.schedule, app=self.app, schedule=live)
        recurrence = Bounded(inner, start_ms=definition.start_ms, end_ms=definition.end_ms)
        return Prepared(definition, recurrence, self.renderer.prepare(definition, static=static))

    def fingerprint(self) -> object:
        """Return a value that changes when messages prepared earlier are no longer right."""
        return self.renderer.fingerprint()

    def broker_fingerprint(self) -> str:
        """Return the fingerprint of the broker that one-time tasks have to be rendered for."""
        if self._broker_fingerprint is None:
            self._broker_fingerprint = fingerprint(self.app)
        return self._broker_fingerprint

    def render_again(self, record: bytes) -> bytes:
        """Return a one-time task's record, rendered for the present broker; raises `MalformedRecord`."""
        return render_for(self.app, record, fingerprint=self.broker_fingerprint())
