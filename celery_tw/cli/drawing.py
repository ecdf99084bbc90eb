"""Drawing: tables by rich, which the ``cli`` extra brings."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text


def draw_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, console: Console | None = None) -> None:
    """Draw a table; cells are taken literally, as names may hold square brackets."""
    table = Table(*columns, box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(Text(cell, overflow="fold") for cell in row))
    (console or Console()).print(table)
