"""Output: the same facts as JSON for programs and as tables for people.

Tables are drawn by rich on a terminal where the ``cli`` extra is installed. Anywhere else, a pipe included, they are plain aligned text
that is never cut to a width. JSON has moments in ISO 8601 and UTC, durations in seconds, and one object at the top.
"""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import Any

import click

GAP = "  "

json_option: Callable[[Any], Any] = click.option("--json", "as_json", is_flag=True, help="Write JSON instead of text.")
yes_option: Callable[[Any], Any] = click.option("--yes", "-y", is_flag=True, help="Do not ask.")


def write_json(document: Mapping[str, Any]) -> None:
    """Write one JSON object; what JSON has no form for, such as an argument that is a UUID, becomes text."""
    click.echo(json.dumps(plain(document), indent=2, ensure_ascii=False, default=str))


def write_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str) -> None:
    """Write a table, or the line *empty* when there are no rows."""
    cells = [[printable(cell) for cell in row] for row in rows]
    if not cells:
        click.echo(empty)
    elif _draws():
        from celery_tw.cli.drawing import draw_table  # noqa: PLC0415 - an optional package, and slow to import

        draw_table(columns, cells)
    else:
        _write_aligned([list(columns), *cells])


def write_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Write pairs of word and value, one a line, without those that have no value."""
    _write_aligned([[word, printable(value)] for word, value in facts if value])


def printable(text: str) -> str:
    """Return *text* without the control characters that would move a terminal's cursor."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def plain(value: Any) -> Any:
    """Return *value* as JSON has it: views become objects, moments text."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value


def _draws() -> bool:
    return sys.stdout.isatty() and find_spec("rich") is not None


def _write_aligned(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo(GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
