"""Outcome: what came of one scenario, kept as a line of ``build/faults.jsonl``."""

import hashlib
import json
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
JOURNAL = ROOT / "build" / "faults.jsonl"
JUDGED = "celery_tw"


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What was seen: *expected* slots, and what became of them, under so many *faults*.

    *late* slots came later than is promised after a fault, *copies* are repeated sends with the same ids, *takeovers_ms* how long after a
    leader was hurt the next one claimed for the first time.
    """

    faults: int
    expected: int
    missed: int = 0
    doubled: int = 0
    copies: int = 0
    late: int = 0
    worst_late_ms: int = 0
    takeovers_ms: tuple[int, ...] = ()
    violations: tuple[str, ...] = ()
    note: str = ""

    @classmethod
    def sum(cls, plays: "Sequence[Played]", *, note: str = "") -> "Played":
        """Return several plays as one."""
        counted = ("faults", "expected", "missed", "doubled", "copies", "late")
        return cls(
            **{name: sum(getattr(each, name) for each in plays) for name in counted},
            worst_late_ms=max(each.worst_late_ms for each in plays),
            takeovers_ms=tuple(took_ms for each in plays for took_ms in each.takeovers_ms),
            violations=tuple(violation for each in plays for violation in each.violations),
            note=note or "; ".join(dict.fromkeys(each.note for each in plays if each.note)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One play of a scenario: when, of which code, with which seed; *error* says why it could not be played to its end.

    *load* is how many processes of the machine wanted a processor meanwhile.
    """

    scenario: str
    seed: int
    commit: str
    code: str
    seconds: float
    played: Played | None = None
    error: str = ""
    skipped: str = ""
    load: float = 0.0

    @property
    def right(self) -> bool:
        """Return whether it was played, and nothing is wrong."""
        return self.played is not None and not self.played.violations


@dataclass(frozen=True, slots=True)
class Journal:
    """All outcomes so far, in the file at *path*."""

    path: Path = field(default=JOURNAL)

    def append(self, outcome: Outcome) -> None:
        self.path.parent.mkdir(exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(asdict(outcome)) + "\n")

    def read(self) -> Iterator[Outcome]:
        """Yield the outcomes in order."""
        for text in self.path.read_text().splitlines() if self.path.exists() else ():
            yield _parse(json.loads(text))


def _parse(fields: dict) -> Outcome:
    played = fields.pop("played")
    lists = {name: tuple(played[name]) for name in ("takeovers_ms", "violations")} if played else {}
    return Outcome(**fields, played=Played(**{**played, **lists}) if played else None)


def commit() -> str:
    """Return the commit that is checked out, shortened."""
    return subprocess.run(["git", "rev-parse", "--short=10", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def code() -> str:
    """Return a digest of the package that is judged: outcomes of other code do not count for it."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / JUDGED).rglob("*")):
        if path.suffix in (".py", ".lua"):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
