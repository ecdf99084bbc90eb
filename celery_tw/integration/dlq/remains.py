"""Remains: the message of a task that has died, as the process that sees the death has it.

The worker's main process has the message itself, and so has a pool of threads. A process of the pool has the request alone, whose arguments
the body may have changed: so what could be changed is written down before the body begins. From the request, or from what was written
down, the message is made again; its callbacks, chain and chord are in the request.
"""

from collections.abc import Hashable, Iterator, Mapping
from typing import Any
from weakref import WeakValueDictionary

from celery.utils.saferepr import saferepr
from kombu import serialization

from celery_tw.integration.messages.identity_headers import MID
from celery_tw.integration.runs.received import envelope_of, message_properties, written
from celery_tw.stores.redis.envelope import Envelope

EMBED = ("callbacks", "errbacks", "chain", "chord")
UNCHANGING = (str, int, float, bool, bytes, type(None))
OF_THE_REQUEST = frozenset(
    {
        *EMBED,
        "args",
        "called_directly",
        "compression",
        "correlation_id",
        "delivery_info",
        "eta",
        "headers",
        "hostname",
        "is_eager",
        "kwargs",
        "properties",
        "redelivered",
        "reply_to",
        "tw_remains",
        "tw_run",
        "tw_sent_again",
    }
)
"""What a request has besides the headers of its message."""

_received: WeakValueDictionary[Hashable, Any] = WeakValueDictionary()


def remember(request: Any) -> None:
    """Keep in mind that a worker's main process has received *request*, for as long as it has it."""
    _received[request.id] = request


def received(task_id: Hashable, headers: Mapping[str, Any] | None = None) -> Any:
    """Return the request of a task that this process has received and still has; None for any other, or another send of the task."""
    request = _received.get(task_id)
    if request is None or headers is None:
        return request
    theirs = request.request_dict
    same = theirs.get(MID) == headers.get(MID) and (theirs.get("retries") or 0) == (headers.get("retries") or 0)
    return request if same else None


def write_down(task: Any, request: Any) -> None:
    """Write the arguments of *request* down in it, if its body could change them and nothing else has them."""
    if not any(not isinstance(value, UNCHANGING) for value in (*request.args, *request.kwargs.values())):
        return
    if received(request.id, vars(request)) is None:
        request.tw_remains = _body(task, request)


def message_of(task: Any, request: Any) -> bytes:
    """Return the message of *request*, a request of the main process's or one under way, as the JSON of an envelope."""
    raw = received(request.id, vars(request))
    return envelope_of(raw) if raw is not None else _rebuilt(task, request)


def headers_of(request: Any) -> dict[str, Any]:
    """Return the headers of the message that a task's present request came with."""
    facts = {name: value for name, value in vars(request).items() if name not in OF_THE_REQUEST and not name.startswith("_")}
    return {**facts, "eta": None}


def _rebuilt(task: Any, request: Any) -> bytes:
    content_type, content_encoding, body = vars(request).get("tw_remains") or _body(task, request)
    info = request.delivery_info or {}
    exchange, routing_key = info.get("exchange") or "", info.get("routing_key") or ""
    properties = message_properties(vars(request).get("properties") or {})
    properties |= {name: value for name in ("correlation_id", "reply_to") if (value := getattr(request, name, None)) is not None}
    return written(
        Envelope(
            body=body if isinstance(body, bytes) else body.encode(),
            content_type=content_type,
            content_encoding=content_encoding,
            headers=headers_of(request),
            properties=properties,
            exchange=exchange,
            routing_key=routing_key,
            declare=() if exchange else (routing_key,),
        )
    )


def _body(task: Any, request: Any) -> tuple[str, str, Any]:
    """Return the body of a message with the arguments of *request*, with its content type and encoding.

    What no serializer can write is shown as text, for people: the letter can be replayed with other arguments.
    """
    body = (list(request.args), dict(request.kwargs), {name: getattr(request, name, None) for name in EMBED})
    for name in _serializers(task):
        try:
            return serialization.dumps(body, serializer=name)
        except Exception:  # each serializer has errors of its own, and another one may do
            continue
    return "text/plain", "utf-8", saferepr(body, maxlen=None)


def _serializers(task: Any) -> Iterator[str]:
    """Yield the serializers that the message may have been written with, the likeliest first."""
    accepted = serialization.prepare_accept_content(task.app.conf.accept_content) or ()
    yield task.serializer or task.app.conf.task_serializer
    yield from (name for name in ("json", "pickle") if name in accepted or f"application/{name}" in accepted)
