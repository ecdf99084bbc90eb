"""Templates: a message made once by Celery, then filled in for each fire.

Two messages of one task with the same options differ in little: per entry the body, its two representations for logs
and the entry's name; per fire the ids, the slot and the delivery tag. ``cut_template`` takes the message that Celery
made of one fire apart at these places; the pieces between are shared by all entries of that task and those options.
Filling in is a join of bytes.

Nothing is taken on trust: a template that does not give back the very message it was cut from is no template, and the
caller renders through Celery instead.
"""

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from kombu.serialization import dumps as serialized
from kombu.utils.json import dumps

from celery_tw.core.command import Command, Fire, Operation
from celery_tw.integration.messages.argument_repr import ReprLimits, argument_repr

ID, SLOT, TAG, NAME, BODY, ARGSREPR, KWARGSREPR = range(7)

PLACES: tuple[tuple[int, tuple[str, ...]], ...] = (
    (BODY, ("body",)),
    (ID, ("headers", "id")),
    (ID, ("headers", "root_id")),
    (ID, ("headers", "tw_mid")),
    (ID, ("properties", "correlation_id")),
    (SLOT, ("headers", "tw_slot")),
    (NAME, ("headers", "periodic_task_name")),
    (ARGSREPR, ("headers", "argsrepr")),
    (KWARGSREPR, ("headers", "kwargsrepr")),
    (TAG, ("properties", "delivery_tag")),
)
"""Where in an envelope which value stands."""

_EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


@dataclass(frozen=True, slots=True)
class Template:
    """The pieces of a message with its holes: *parts* holds None in each hole, *holes* says which value goes where."""

    operation: Operation
    key: bytes
    parts: tuple[bytes | None, ...]
    holes: tuple[tuple[int, int], ...]
    encoding: str
    queue: str = ""
    lane: str = ""


@dataclass(frozen=True, slots=True)
class TemplateRendering:
    """The message of one entry, ready but for the fire. *own* are the entry's values, as JSON, in the order of NAME … KWARGSREPR."""

    template: Template
    own: tuple[bytes, bytes, bytes, bytes]
    take_tag: Callable[[], bytes]

    timeless = True
    path = "template"
    reason = "plain"

    def commands(self, fire: Fire) -> list[Command]:
        """Return the one command that hands the message of *fire* over."""
        template = self.template
        message = self.message(fire, self.take_tag())
        return [Command(template.operation, template.key, message, queue=template.queue, lane=template.lane)]

    def message(self, fire: Fire, tag: bytes) -> bytes:
        """Return the envelope of *fire* with the delivery tag *tag*."""
        values = (b'"%b"' % fire.fire_id.encode(), b"%d" % fire.slot_ms, b'"%b"' % tag, *self.own)
        parts: list[Any] = list(self.template.parts)
        for place, value in self.template.holes:
            parts[place] = values[value]
        return b"".join(parts)


def cut_template(command: Command, fire: Fire) -> Template | str:
    """Return the template of the message in *command*, which Celery made of *fire*, or why it cannot be one."""
    envelope = json.loads(command.payload)
    headers, properties = envelope["headers"], envelope["properties"]
    if properties["delivery_info"]["exchange"]:
        return f"it goes through the exchange {properties['delivery_info']['exchange']!r}"
    if headers.get("expires") is not None or headers.get("eta") is not None:
        return "its message depends on when it is sent"
    if headers["root_id"] != fire.fire_id or headers["parent_id"] is not None:
        return "it is sent from within another task"
    if envelope["content-type"] != "application/json" or "compression" in headers or headers.get("stamped_headers"):
        return "its message is not plain JSON"
    return Template(
        command.operation,
        command.key,
        *_cut(envelope),
        encoding=properties["body_encoding"],
        queue=command.queue,
        lane=command.lane,
    )


def _cut(envelope: dict[str, Any]) -> tuple[tuple[bytes | None, ...], tuple[tuple[int, int], ...]]:
    mark = uuid4().hex
    for value, path in PLACES:
        _set(envelope, path, f"{mark}{value}")
    pieces = re.split(f'"{mark}(.)"'.encode(), dumps(envelope).encode())
    holes = tuple((place, int(pieces[place])) for place in range(1, len(pieces), 2))
    return tuple(None if place % 2 else piece for place, piece in enumerate(pieces)), holes


def _set(envelope: dict[str, Any], path: tuple[str, ...], value: str) -> None:
    *outer, last = path
    for key in outer:
        envelope = envelope[key]
    envelope[last] = value


def own_values(
    name: str, args: list[Any], kwargs: Mapping[str, Any], *, encoding: str, limits: ReprLimits
) -> tuple[bytes, bytes, bytes, bytes]:
    """Return an entry's own values as JSON: its name, the body of its message and the two representations of its arguments."""
    _, _, body = serialized((args, kwargs, _EMBED), serializer="json")
    return (
        json.dumps(name).encode(),
        b'"%b"' % base64.b64encode(body.encode()) if encoding == "base64" else json.dumps(body).encode(),
        json.dumps(argument_repr(args or (), size=limits.args_size, levels=limits.levels)).encode(),
        json.dumps(argument_repr(kwargs, size=limits.kwargs_size, levels=limits.levels)).encode(),
    )
