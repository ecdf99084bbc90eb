"""All zones, all years: ``python -m tests.calendars [--years 2000-2100] [--zone NAME]… [--limit ZONES] [--journal FILE]``.

Each zone that is done is one line of the journal. A run that is interrupted goes on after it, as long as neither the code under test, nor
this comparison, nor the zone's own rules have changed. Zones that keep the same time throughout are compared in full once, and then with
a few expressions each. Ends with a report; the exit status is 1 when there was a difference.
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from zoneinfo import available_timezones

from tests.calendars.expressions import EXPRESSIONS, FEW
from tests.calendars.oracle import Calendar
from tests.calendars.sweep import sweep

ROOT = Path(__file__).parents[2]
ABSENT = {"localtime", "Factory"}
JUDGED = (
    "core/zones.py",
    "core/cron.py",
    "core/cron_fields.py",
    "core/day_times.py",
    "core/rrule.py",
    "core/rrule_days.py",
    "core/rrule_parts.py",
)


def main(arguments: list[str]) -> int:
    options = _options(arguments)
    done = _read(options.journal, _digest(options.years))
    zones = options.zone or sorted(available_timezones() - ABSENT)
    for line in _sweep_all(zones, options.years, done, limit=options.limit):
        _append(options.journal, line)
        done[line["zone"]] = line
    lines = [done[zone] for zone in zones if zone in done]
    print(_report(lines, left=len(zones) - len(lines), years=options.years))  # noqa: T201
    return any(line["differences"] for line in lines)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.calendars", description=__doc__)
    parser.add_argument("--years", type=_years, default=range(2000, 2101), metavar="FIRST-LAST")
    parser.add_argument("--zone", action="append")
    parser.add_argument("--limit", type=int, help="stop after so many zones that were not in the journal")
    parser.add_argument("--journal", type=Path, default=ROOT / "build" / "calendars.jsonl")
    return parser.parse_args(arguments)


def _years(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def _digest(years: range) -> str:
    """Return a short hash of what a result depends on, apart from the zone."""
    sources = [*Path(__file__).parent.glob("*.py"), *(ROOT / "celery_tw" / name for name in JUDGED)]
    text = b"".join(source.read_bytes() for source in sorted(sources)) + repr(years).encode()
    return hashlib.blake2b(text, digest_size=8).hexdigest()


def _read(journal: Path, digest: str) -> dict[str, dict]:
    if not journal.exists():
        return {}
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    return {line["zone"]: line for line in lines if line["digest"] == digest}


def _sweep_all(zones: Iterable[str], years: range, done: dict[str, dict], *, limit: int | None) -> Iterator[dict]:
    in_full = {line["rules"] for line in done.values() if line["in_full"]}
    digest = _digest(years)
    for zone in [zone for zone in zones if zone not in done][:limit]:
        started = time.monotonic()
        calendar = Calendar(zone, years)
        rules = hashlib.blake2b(repr(calendar.rules).encode(), digest_size=8).hexdigest()
        finding = sweep(zone, years, FEW if rules in in_full else EXPRESSIONS, calendar=calendar)
        yield {
            "zone": zone,
            "digest": digest,
            "rules": rules,
            "in_full": rules not in in_full,
            "seconds": round(time.monotonic() - started, 1),
            **asdict(finding),
            "differences": [str(difference) for difference in finding.differences],
        }
        in_full.add(rules)


def _append(journal: Path, line: dict) -> None:
    journal.parent.mkdir(parents=True, exist_ok=True)
    with journal.open("a") as file:
        file.write(json.dumps(line) + "\n")
    print(f"{line['zone']:32} {line['changes']:4} changes {line['seconds']:6} s {len(line['differences'])} differences", file=sys.stderr)  # noqa: T201


def _report(lines: list[dict], *, left: int, years: range) -> str:
    total = {name: sum(line[name] for line in lines) for name in ("changes", "slots", "questions", "cronsim_slots", "seconds")}
    differences = [difference for line in lines for difference in line["differences"]]
    rows = [
        ("zones compared", f"{len(lines):,}" + (f" ({left:,} left)" if left else "")),
        ("of these in full, being unlike all others", f"{sum(line['in_full'] for line in lines):,}"),
        ("years", f"{years[0]}–{years[-1]}"),
        ("expressions", f"{len(EXPRESSIONS)}"),
        ("changes of the clock", f"{total['changes']:,}"),
        ("slots compared with the scan of minutes", f"{total['slots']:,}"),
        ("questions from moments that are no slots", f"{total['questions']:,}"),
        ("slots compared with cronsim", f"{total['cronsim_slots']:,}"),
        ("differences", f"{len(differences):,}"),
        ("time", f"{total['seconds'] / 60:.0f} min of one core, tzdata {version('tzdata')}"),
    ]
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    return "\n".join(["| calendars | |", "| --- | --- |", table, *(f"- {difference}" for difference in differences)])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
