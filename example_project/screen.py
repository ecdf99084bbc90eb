"""Screen: what the demonstration says, in colour where rich is installed and somebody watches."""

import sys
from collections.abc import Sequence
from datetime import datetime
from importlib.util import find_spec

from example_project.ledger import Line
from example_project.verdict import Outcome

COLUMNS = ("entry", "expected", "ran", "missed", "doubled", "unexpected")


class Screen:
    """Plain lines."""

    def step(self, text: str) -> None:
        """Say what happens now."""
        print(f"\n{_clock()} == {text}", flush=True)

    def fire(self, line: Line) -> None:
        """Show that a task started, and how late."""
        print(f"{_clock(line.started_ms)}    {_fire(line)}", flush=True)

    def summary(self, outcomes: Sequence[Outcome]) -> None:
        """Show the account of each entry."""
        rows = [COLUMNS, *map(_row, outcomes)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip(), flush=True)

    def fact(self, text: str, *, holds: bool) -> None:
        """Say whether one thing that was promised holds."""
        print(f"  {'yes' if holds else 'NO '}  {text}", flush=True)

    def verdict(self, text: str, *, right: bool) -> None:
        """Say how it ended."""
        print(f"\n{text}", flush=True)


class RichScreen(Screen):
    """The same in colour."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415 - an optional package

        self.console = Console(highlight=False)

    def _print(self, text: str, style: str) -> None:
        self.console.print(text, style=style, markup=False)

    def step(self, text: str) -> None:
        self._print(f"\n{_clock()} == {text}", "bold cyan")

    def fire(self, line: Line) -> None:
        late_ms = line.started_ms - (line.slot_ms or line.started_ms)
        self._print(f"{_clock(line.started_ms)}    {_fire(line)}", "green" if late_ms < 100 else "yellow")

    def summary(self, outcomes: Sequence[Outcome]) -> None:
        from rich.table import Table  # noqa: PLC0415

        table = Table(*COLUMNS)
        for outcome in outcomes:
            table.add_row(*_row(outcome), style=None if outcome.right else "red")
        self.console.print(table)

    def fact(self, text: str, *, holds: bool) -> None:
        self._print(f"  {'yes' if holds else 'NO '}  {text}", "green" if holds else "bold red")

    def verdict(self, text: str, *, right: bool) -> None:
        self._print(f"\n{text}", "bold green" if right else "bold red")


def screen() -> Screen:
    """Return the screen that fits where standard output goes."""
    return RichScreen() if sys.stdout.isatty() and find_spec("rich") else Screen()


def _clock(at_ms: int | None = None) -> str:
    at = datetime.now().astimezone() if at_ms is None else datetime.fromtimestamp(at_ms / 1000).astimezone()
    return f"{at:%H:%M:%S}.{at.microsecond // 1000:03}"


def _fire(line: Line) -> str:
    if line.slot_ms is None:
        return f"{line.entry:<16} not for a slot"
    return f"{line.entry:<16} slot {_clock(line.slot_ms)}  started {line.started_ms - line.slot_ms:+5} ms"


def _row(outcome: Outcome) -> tuple[str, ...]:
    faults = (len(outcome.missed_ms), len(outcome.doubled_ms), len(outcome.unexpected_ms))
    return (outcome.entry, str(outcome.expected), str(outcome.ran), *map(str, faults))
