"""Argument repr: how Celery shows arguments in logs and monitors, for the common case without its cost.

``celery.utils.saferepr`` cuts long and deep values short, token by token. Where nothing is long or deep it comes to a plain walk, which is
what this is; anything else is left to it. The tests hold the two against each other.
"""

from dataclasses import dataclass
from typing import Any

from celery.utils.saferepr import saferepr

_NUMBERS = (int, float, bool)


@dataclass(frozen=True, slots=True)
class ReprLimits:
    """How long and how deep an app shows its arguments."""

    args_size: int
    kwargs_size: int
    levels: int | None


def argument_repr(value: Any, *, size: int, levels: int | None) -> str:
    """Return exactly ``saferepr(value, size, levels)``."""
    text = _plain(value, levels or 0)
    if text is None or len(text) >= size:
        return str(saferepr(value, size, maxlevels=levels))
    return text


def _plain(value: Any, levels: int) -> str | None:
    """Return the repr of a value made of plain types no deeper than *levels*, else None."""
    kind = type(value)
    if kind is str:
        return "'" + value.replace("'", "\\'") + "'"
    if kind in _NUMBERS:
        return str(value)
    if value is None:
        return "None"
    if levels > 0 and kind is list:
        return _joined("[", value, "]", levels)
    if levels > 0 and kind is tuple and not value:
        return "()"
    if levels > 0 and kind is dict:
        return _pairs(value, levels)
    return None


def _joined(opening: str, values: list[Any], closing: str, levels: int) -> str | None:
    texts = [_plain(value, levels - 1) for value in values]
    return None if None in texts else opening + ", ".join(texts) + closing  # type: ignore[arg-type]


def _pairs(value: dict[Any, Any], levels: int) -> str | None:
    texts = []
    for key, inner in value.items():
        key_text, inner_text = _plain(key, 0), _plain(inner, levels - 1)
        if key_text is None or inner_text is None:
            return None
        texts.append(f"{key_text}: {inner_text}")
    return "{" + ", ".join(texts) + "}"
