"""Celery rendering: the message of one fire, made by Celery itself.

The way for everything that is not plain: canvases, ``expires`` and ``countdown`` (which count from the fire), lazy
arguments, routers, overridden or patched publishing, receivers of publish signals. Each fire goes through
``apply_async`` as stock beat sends it, into a collector.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from celery_tw.core.command import Command, Fire
from celery_tw.errors import CeleryTWError, RenderFailed
from celery_tw.integration.messages.canvas_ids import frozen_canvas
from celery_tw.integration.messages.collecting import collect
from celery_tw.integration.messages.destinations import fair_lane_of
from celery_tw.integration.messages.identity_headers import COUNTED
from celery_tw.stores.redis.envelope import read_envelope


class CeleryRendering:
    """Renders each fire of one entry through Celery; *reason* says why this way.

    *static* is the live entry, if its arguments are lazy. Messages for one of the *fair* queues are given their lanes.
    """

    timeless = False
    path = "celery"

    def __init__(
        self, app: Any, signature: Mapping[str, Any], *, reason: str, static: Any = None, fair: frozenset[str] = frozenset()
    ) -> None:
        self.app = app
        self.fair = fair
        self.reason = reason
        self._signature = signature
        self._static = static

    def commands(self, fire: Fire) -> list[Command]:
        """Return what puts the messages of *fire* into the broker.

        Raises RenderFailed when Celery refuses to send the task or sends nothing, StoreUnavailable when Redis had to be asked in vain.
        """
        if self.app.conf.task_always_eager:
            raise RenderFailed(fire.entry_name, "task_always_eager is on, which runs tasks here instead of sending them")
        try:
            with collect(self.app) as collected:
                self._send(collected.producer, fire)
        except CeleryTWError:
            raise
        except Exception as error:  # whatever the user's task class, router or receiver may raise
            raise RenderFailed(fire.entry_name, error) from error
        if not collected.commands:
            raise RenderFailed(fire.entry_name, "nothing was sent: no queue is bound to the exchange it is routed to")
        return [self._laned(command) for command in collected.commands] if self.fair else collected.commands

    def _laned(self, command: Command) -> Command:
        """Return *command* with its lane, when it is for a fair queue."""
        if not command.carries_a_message:
            return command
        found = fair_lane_of(read_envelope(command.payload), fair=self.fair)
        return replace(command, queue=found["queue"], lane=found["lane"]) if found else command

    def _send(self, producer: Any, fire: Fire) -> None:
        if self._signature.get("subtask_type"):
            canvas = frozen_canvas(self._signature, app=self.app, fire_id=fire.fire_id, headers=fire_headers(fire))
            canvas.apply_async(producer=producer)
        else:
            self._send_task(producer, fire)

    def _send_task(self, producer: Any, fire: Fire) -> None:
        name, args, kwargs, options = self._now()
        headers = {**(options.get("headers") or {}), **fire_headers(fire)}
        options = {**options, "headers": headers, "task_id": fire.fire_id, "producer": producer}
        task = self.app.tasks.get(name)
        if task is not None:
            task.apply_async(args, kwargs, **options)
        else:
            self.app.send_task(name, args, kwargs, **options)

    def _now(self) -> tuple[str, list[Any], dict[str, Any], dict[str, Any]]:
        """Return task, arguments and options as they are now; lazy arguments are evaluated for each fire."""
        live, written = self._static, self._signature
        if live is not None:
            return live.task, list(live.evaluated_args()), live.evaluated_kwargs(), dict(live.options)
        return written["task"], list(written.get("args") or ()), dict(written.get("kwargs") or {}), dict(written.get("options") or {})


def fire_headers(fire: Fire) -> dict[str, Any]:
    """Return the headers that mark a message as this fire's: stock beat's, django-celery-beat's and ours."""
    headers: dict[str, Any] = {
        "celery_beat_task": True,
        "periodic_task_name": fire.entry_name,
        "tw_mid": fire.fire_id,
        "tw_slot": fire.slot_ms,
    }
    if fire.counted:
        headers[COUNTED] = True
    return headers
