"""Report: the figures of one benchmark, as a table for people or as JSON."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Report:
    """Rows of figures by column, then ratios or totals with the target that each should meet."""

    title: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    findings: list[dict[str, Any]] = field(default_factory=list)

    def add(self, who: str, **figures: Any) -> None:
        """Add a row of figures of *who*."""
        self.rows.append({"who": who, **figures})

    def find(self, what: str, value: float | None, *, at_least: float | None = None, at_most: float | None = None) -> None:
        """Add a finding; *at_least* or *at_most* is its target."""
        met = value is not None and (at_least is None or value >= at_least) and (at_most is None or value <= at_most)
        self.findings.append({"what": what, "value": value, "at_least": at_least, "at_most": at_most, "met": met})

    def as_json(self) -> str:
        return json.dumps({"benchmark": self.title, "rows": self.rows, "findings": self.findings})

    def as_text(self) -> str:
        columns = list(dict.fromkeys(column for row in self.rows for column in row))
        lines = [self.title, "", *_table(columns, [[_shown(row.get(column)) for column in columns] for row in self.rows]), ""]
        found = [[finding["what"], _shown(finding["value"]), _target(finding)] for finding in self.findings]
        return "\n".join(lines + _table(["finding", "value", "target"], found))


def _target(finding: dict[str, Any]) -> str:
    if finding["at_least"] is None and finding["at_most"] is None:
        return ""
    bound = f">= {_shown(finding['at_least'])}" if finding["at_least"] is not None else f"<= {_shown(finding['at_most'])}"
    return f"{bound}  {'met' if finding['met'] else 'MISSED'}"


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(line[index]) for line in [columns, *rows]) for index in range(len(columns))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in [columns, *rows]]
