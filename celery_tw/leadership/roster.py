"""Roster: which schedulers live, and whether their wall clocks agree with Redis.

Every scheduler writes its line a few times per lease, with a counter. The reader judges by the counter and by its own boot clock only: a
line whose counter stands still for `SILENT_LEASES` leases belongs to the dead.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SILENT_LEASES = 5


@dataclass(frozen=True, slots=True)
class _Seen:
    counter: int
    since_ms: int
    skew_ms: int
    skew_before_ms: int


class Roster:
    """What the reader has seen of the others' lines."""

    def __init__(self, *, lease_ms: int) -> None:
        self.silence_ms = SILENT_LEASES * lease_ms
        self._seen: dict[str, _Seen] = {}

    def observe(self, lines: Mapping[str, Mapping[str, Any]], *, boot_ms: int) -> list[str]:
        """Take a new reading of all lines and return the ids of the silent ones."""
        self._seen = {member: self._look(member, line, boot_ms) for member, line in lines.items()}
        return [member for member, seen in self._seen.items() if boot_ms - seen.since_ms > self.silence_ms]

    def _look(self, member: str, line: Mapping[str, Any], boot_ms: int) -> _Seen:
        counter, skew_ms = _number(line, "counter"), _number(line, "skew_ms")
        before = self._seen.get(member)
        if before is None:
            return _Seen(counter, boot_ms, skew_ms, skew_ms)
        if before.counter == counter:
            return before
        return _Seen(counter, boot_ms, skew_ms, before.skew_before_ms)

    def settle(self) -> None:
        """Take the wall clocks as they stand now for the ones to compare with after the next step."""
        self._seen = {m: _Seen(s.counter, s.since_ms, s.skew_ms, s.skew_ms) for m, s in self._seen.items()}

    def share_a_step(self, *, max_skew_ms: int) -> bool:
        """Return whether most wall clocks moved with Redis time since `settle`, each within *max_skew_ms*."""
        moved = [abs(seen.skew_ms - seen.skew_before_ms) <= max_skew_ms for seen in self._seen.values()]
        return 2 * sum(moved) > len(moved)


def _number(line: Mapping[str, Any], field: str) -> int:
    value = line.get(field, 0)
    return value if isinstance(value, int) else 0
