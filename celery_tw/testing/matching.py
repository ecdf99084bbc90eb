"""Matching: judges a scheduler by times alone, for those whose messages do not say which slot they are for, as celery beat's and RedBeat's.

Each nominal time asks for one message between itself and *tolerance_ms* later, and no message serves two. All windows are equally long, so
taking them in order, each with the first message that is left for it, serves as many as can be served. What serves none is extra: too
early, too late, or a double.

The method is that of Jepsen's test of Chronos (aphyr.com/posts/326-jepsen-chronos): windows, a matching of runs to them, and no claim on
the last ones, whose messages may still be on their way.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Match:
    """Which message served which nominal time, which times had none, and which messages served none."""

    matched: tuple[tuple[int, int], ...]
    missed: tuple[int, ...]
    extra: tuple[int, ...]


def match(nominal_ms: Iterable[int], received_ms: Iterable[int], *, tolerance_ms: int, read_ms: int | None = None) -> Match:
    """Match nominal times to receive times; times whose window was still open at *read_ms* may go without and are then left out."""
    received = sorted(received_ms)
    matched, missed, extra = [], [], []
    position = 0
    for slot_ms in sorted(nominal_ms):
        while position < len(received) and received[position] < slot_ms:
            extra.append(received[position])
            position += 1
        if position < len(received) and received[position] <= slot_ms + tolerance_ms:
            matched.append((slot_ms, received[position]))
            position += 1
        elif read_ms is None or slot_ms + tolerance_ms < read_ms:
            missed.append(slot_ms)
    return Match(tuple(matched), tuple(missed), (*extra, *received[position:]))


def rhythm(first_ms: int, period_ms: int, *, until_ms: int) -> range:
    """Return the nominal times of an interval that began with a message at *first_ms*, up to *until_ms*."""
    return range(first_ms, until_ms + 1, period_ms)


def repeats(received_ms: Sequence[int], period_ms: int) -> list[int]:
    """Return the receive times that came within half a period of the one before: an interval never asks for that."""
    return [later for earlier, later in pairwise(sorted(received_ms)) if 2 * (later - earlier) < period_ms]
