"""Stamps: which tasks a set of revoked stamped headers is about, judged as Celery's workers judge it.

One stamp in common is enough. Headers are a mapping of header to a stamp or a list of stamps; on the command line they are words,
``header=stamp``.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

Headers = Mapping[str, Any] | Iterable[str]


def stamps_of(headers: Headers) -> dict[str, list[Any]]:
    """Return the stamps to look for, by header; words without a ``=`` have none."""
    if not isinstance(headers, Mapping):
        pairs = (str(word).partition("=") for word in headers)
        return {header: [stamp] for header, sign, stamp in pairs if sign}
    return {str(header): _listed(stamps) for header, stamps in headers.items()}


def texts_of(stamps: Mapping[str, Any]) -> list[bytes]:
    """Return the texts of which a message's JSON holds one, if it has one of the headers at all."""
    return [json.dumps(header).encode() for header in stamps]


def matches(stamps: Mapping[str, list[Any]], headers: Mapping[str, Any]) -> bool:
    """Return whether a message with *headers* bears one of *stamps*."""
    borne = headers.get("stamps")
    if not isinstance(borne, Mapping):
        return False
    return any(stamp in wanted for header, wanted in stamps.items() if header in borne for stamp in _listed(borne[header]))


def _listed(stamps: Any) -> list[Any]:
    return list(stamps) if isinstance(stamps, list | tuple | set | frozenset) else [stamps]
