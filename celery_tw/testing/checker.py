"""Checker: holds a ledger against the slots that there should be, by all the oracles that apply.

::

    found = check(ledger.lines(), [Grid("tick", 1000)], Window(from_ms, until_ms))
    assert not found.violations

It is a pure function of values and never asks the system under test. What each rule means, and which line it goes by, is in
``oracles.py``; a rule whose lines nobody wrote says nothing, and O4, O8 and O9 are asked only when *budget*, *rest* or *account* is given.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from celery_tw.testing import oracles
from celery_tw.testing.ledger import Line, What
from celery_tw.testing.oracles import Account, Budget, Rest, Violation, Window
from celery_tw.testing.slots import Slots


@dataclass(frozen=True, slots=True)
class Findings:
    """What the oracles say.

    *expected* is how many slots the window has; *copies* how often a send took effect again; *late_ms* how late each slot of the window
    was that was handed over, least first.
    """

    expected: int
    violations: tuple[Violation, ...] = ()
    copies: int = 0
    late_ms: tuple[int, ...] = ()

    def of(self, rule: str) -> list[Violation]:
        """Return the violations of one rule."""
        return [violation for violation in self.violations if violation.rule == rule]

    def lateness_ms(self, share: float) -> int:
        """Return how late that share of the slots was at most: 0.5 is the median, 1.0 the latest."""
        return self.late_ms[min(len(self.late_ms) - 1, int(share * len(self.late_ms)))] if self.late_ms else 0


def check(
    lines: Iterable[Line],
    slots: Iterable[Slots],
    window: Window,
    *,
    effect: What = What.STARTED,
    copies_run: bool = False,
    guard_ms: int = 0,
    budget: Budget | None = None,
    rest: Rest | None = None,
    account: Account | None = None,
) -> Findings:
    """Return what is wrong with *lines*, given the *slots* that there should be in *window*.

    *effect* and *copies_run* are those of `oracles.doubled`, *guard_ms* that of `oracles.early`.
    """
    history, expected = list(lines), list(slots)
    found = [
        *oracles.missed(history, expected, window),
        *oracles.contradicted(history),
        *oracles.claimed_twice(history),
        *oracles.doubled(history, effect=effect, copies_run=copies_run),
        *(oracles.late(history, expected, window, budget) if budget else ()),
        *oracles.early(history, guard_ms=guard_ms),
        *oracles.phantoms(history, expected),
        *oracles.epochs(history),
        *(oracles.stuck(rest) if rest else ()),
        *(oracles.unaccounted(history, account) if account else ()),
    ]
    required = [(each.entry, slot_ms) for each in expected for slot_ms in each.between(window.from_ms, window.until_ms)]
    return Findings(len(required), tuple(found), oracles.copies(history, of=effect), _late_ms(history, required))


def _late_ms(lines: Sequence[Line], required: Iterable[tuple[str, int]]) -> tuple[int, ...]:
    first_ms = oracles.handed_over_ms(lines)
    return tuple(sorted(first_ms[slot] - slot[1] for slot in required if slot in first_ms))
