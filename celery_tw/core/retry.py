"""Retry: what becomes of a task whose body has failed. Pure.

A failed body is run again after a delay that doubles with each attempt, up to a cap, and of which a random share is taken: of a thousand
tasks that failed together, no two come back together. (Exponential backoff with full jitter, Marc Brooker, "Exponential Backoff And
Jitter", AWS Architecture Blog, 2015.)

::

    failed ──▶ the policy for this error ──▶ attempts left? ──▶ too old by then? ──▶ a token of the budget ──▶ again, later
                                                  │ no                │ yes               │ none: later still
                                                  └───────────────────┴──▶ final: the error is raised

Worked example: ``Retry(max=5, base=2, cap=60)``. The delays are drawn from 0 to 2, 4, 8, 16 and 32 seconds; the sixth failure is final.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any, Literal, get_args

from celery_tw.errors import ImproperlyConfigured

Jitter = Literal["full", "none"]
JITTERS: tuple[str, ...] = get_args(Jitter)

LONGEST_S = 366 * 24 * 3600.0
MOST_DOUBLINGS = 64
"""By then each delay is at its cap, whatever its base."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """A policy: up to *max* retries (None: no end), after *base* seconds, doubled each time up to *cap*; *jitter* takes a share of that.

    *on* has other policies for some types of errors and what derives from them; the nearest type counts, and ``max=0`` is never.
    *max_age* is in seconds since the task was first sent: what would begin later than that is not tried again. *budget* is how many retries
    there may be in how many seconds, of all tasks of the name together: past it a retry waits longer. Both hold for the policies in *on* as
    well, which may have a *max_age* of their own. Raises ImproperlyConfigured, naming what was expected and what came.
    """

    max: int | None = 3
    base: float = 1.0
    cap: float = 600.0
    jitter: Jitter = "full"
    on: Mapping[type[BaseException], "Retry"] = field(default_factory=dict)
    max_age: float | None = None
    budget: tuple[int, float] | None = None

    def __post_init__(self) -> None:
        if self.max is not None and not _is_whole(self.max, low=0):
            raise _wrong("max", "a whole number of retries from 0, or None", self.max)
        for name in ("base", "cap"):
            if not _is_seconds(getattr(self, name)):
                raise _wrong(name, f"a number of seconds from 0 to {LONGEST_S:g}", getattr(self, name))
        if self.jitter not in JITTERS:
            raise _wrong("jitter", f"one of {', '.join(map(repr, JITTERS))}", self.jitter)
        if self.max_age is not None and not _is_seconds(self.max_age):
            raise _wrong("max_age", f"a number of seconds from 0 to {LONGEST_S:g}, or None", self.max_age)
        if self.budget is not None and not _is_budget(self.budget):
            raise _wrong("budget", "a number of retries and a number of seconds above 0, such as (100, 60)", self.budget)
        self._refuse_unfit_types()

    def _refuse_unfit_types(self) -> None:
        if not isinstance(self.on, Mapping):
            raise _wrong("on", "a mapping of error types to policies", self.on)
        for kind, policy in self.on.items():
            if not (isinstance(kind, type) and issubclass(kind, Exception) and isinstance(policy, Retry)):
                raise _wrong("on", "a mapping of error types to policies", {kind: policy})
            if policy.on or policy.budget is not None:
                raise _wrong(f"on[{kind.__name__}]", "a policy without on and budget, which only the outer one has", policy)

    def towards(self, error: BaseException) -> "Retry":
        """Return the policy for *error*, with the age and the budget of this one."""
        nearest = next((self.on[kind] for kind in type(error).__mro__ if kind in self.on), None)
        if nearest is None:
            return self
        return replace(nearest, max_age=self.max_age if nearest.max_age is None else nearest.max_age, budget=self.budget)

    def allows(self, *, retries: int) -> bool:
        """Return whether a task that was retried *retries* times already may be once more."""
        return self.max is None or retries < self.max

    def delay_ms(self, *, retries: int, draw: float) -> int:
        """Return how long to wait before the retry after *retries* others; *draw* is a random number from 0 to 1."""
        longest_s = min(self.cap, self.base * 2.0 ** min(retries, MOST_DOUBLINGS))
        return round(1000 * (longest_s * draw if self.jitter == "full" else longest_s))

    def outlives(self, *, age_ms: int) -> bool:
        """Return whether an attempt that begins *age_ms* after the first send comes in time."""
        return self.max_age is None or age_ms <= 1000 * self.max_age

    def left_ms(self, *, age_ms: int) -> int | None:
        """Return in how many ms an attempt may begin at most, *age_ms* after the first send; None for any."""
        return None if self.max_age is None else max(0, int(1000 * self.max_age) - age_ms)

    @property
    def counts_age(self) -> bool:
        """Whether it has to be known when a task was first sent."""
        return self.max_age is not None or any(policy.max_age is not None for policy in self.on.values())


def _is_whole(value: Any, *, low: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= low


def _is_seconds(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value) and 0 <= value <= LONGEST_S


def _is_budget(value: Any) -> bool:
    if not isinstance(value, tuple | list) or len(value) != 2:
        return False
    return _is_whole(value[0], low=1) and _is_seconds(value[1]) and value[1] > 0


def _wrong(name: str, expected: str, value: Any) -> ImproperlyConfigured:
    return ImproperlyConfigured(f"Retry, {name}: expected {expected}, got {value!r}")
