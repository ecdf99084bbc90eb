"""Redaction: arguments may be secret, and a terminal is read over shoulders and in logs.

A value is hidden when its *key* says so (password, token, secret, key, in any part of the name), at any depth, and so is the password in a
URL. A secret that is passed by position, or under an innocent name, cannot be recognised: what must not be seen should not be an argument.
"""

import re
from collections.abc import Mapping
from typing import Any

from celery_tw.integration.entries.views import Entry

HIDDEN = "********"

_SECRET = re.compile(r"passw|passphrase|token|secret|credential|(?<!routing_)key", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(?<=://)([^/@\s:]*):([^/@\s]+)(?=@)")


def redacted(value: Any) -> Any:
    """Return *value* with what looks secret replaced by stars."""
    if isinstance(value, Mapping):
        return {key: HIDDEN if _SECRET.search(str(key)) and inner is not None else redacted(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(inner) for inner in value]
    if isinstance(value, str):
        return _URL_PASSWORD.sub(rf"\1:{HIDDEN}", value)
    return value


def redacted_headers(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the headers of a message, without those that show its arguments as text, in which a secret cannot be told by its key."""
    shown: dict[str, Any] = redacted({name: value for name, value in headers.items() if name not in ("argsrepr", "kwargsrepr")})
    return shown


def redacted_signature(entry: Entry) -> dict[str, Any]:
    """Return what an entry sends, as plain fields."""
    return {word: redacted(part) for word, part in (entry.signature or {}).items()}


def redacted_entry(entry: Entry) -> dict[str, Any]:
    """Return an entry as plain fields."""
    fields = {word: getattr(entry, word) for word in Entry.__dataclass_fields__}
    return fields | {"signature": redacted_signature(entry) or None}
