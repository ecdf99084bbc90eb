"""Flaws: what keeps a message that says it is a task from being one, seen before it can end the worker that Celery would give it to."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from celery.utils.time import maybe_iso8601, maybe_make_aware, timezone


def flaw_of(message: Any) -> str | None:
    """Return what keeps a message that says it is a task from being one; None for one that Celery can deal with."""
    headers = message.headers
    if not isinstance(headers, Mapping) or "task" not in headers:
        return None
    if not isinstance(headers["task"], str) or headers.get("id") is None or not isinstance(headers["id"], Hashable):
        return "its headers do not name its task and its id"
    try:
        body = message.payload
    except Exception:  # Celery meets it again, and says what it is
        return None
    return None if isinstance(body, Mapping) and "args" in body else _flaw_of_body(body)


def flaw_of_times(message: Any, app: Any) -> str | None:
    """Return which time in the headers of a message is beyond those that there are where *app* is; None for what Celery can deal with."""
    headers = message.headers
    if not isinstance(headers, Mapping):
        return None
    for name in ("eta", "expires"):
        if not (value := headers.get(name)):
            continue
        try:
            moment = maybe_make_aware(maybe_iso8601(value), app.timezone)
            if name == "eta" and app.uses_utc_timezone():
                timezone.to_system(moment)
        except OverflowError:
            return f"its {name}, {value}, is out of range"
        except Exception:  # Celery meets it again, and says what it is
            continue
    return None


def _flaw_of_body(body: Any) -> str | None:
    if not isinstance(body, Sequence) or isinstance(body, str | bytes) or len(body) != 3:
        return f"its body is {_kind(body)}, not [args, kwargs, embed]"
    args, kwargs, embed = body
    if not isinstance(args, Sequence) or isinstance(args, str | bytes):
        return f"its args are {_kind(args)}, not a list"
    if not isinstance(kwargs, Mapping):
        return f"its kwargs are {_kind(kwargs)}, not an object"
    if embed is not None and not isinstance(embed, Mapping):
        return f"what its body says of its canvas is {_kind(embed)}, not an object"
    return None


def _kind(value: Any) -> str:
    return f"a {type(value).__name__} of {len(value)}" if isinstance(value, list | tuple) else f"a {type(value).__name__}"
