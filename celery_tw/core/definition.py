"""Definition: what an entry is, apart from its state.

A definition is a plain value. It travels as JSON (``stores/redis/codec.py``), is compared as JSON (an equal one is no change) and is
never changed in place: pause, mark and counters are *state* and live beside it in Redis.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from celery_tw.core.misfire import Misfire
from celery_tw.core.overlap import Policy

Source = Literal["api", "settings"]
Delivery = Literal["at_least_once", "at_most_once"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """One entry as its author wrote it.

    *signature* is a Celery signature as a plain mapping (``task``, ``args``, ``kwargs``, ``options``, ``subtask_type``, …; a canvas
    nests). *schedule* is a schedule spec (see ``core/spec.py``). *local* marks a settings entry that cannot be written down whole (a
    lazy argument, an own schedule class): only a process with those settings can fire it.
    """

    name: str
    signature: Mapping[str, Any]
    schedule: Mapping[str, Any]
    misfire: Misfire = field(default_factory=Misfire.latest)
    tolerance_ms: int = 5000
    jitter_ms: int = 0
    start_ms: int | None = None
    end_ms: int | None = None
    max_runs: int | None = None
    note: str = ""
    delivery: Delivery = "at_least_once"
    overlap: Policy = "allow"
    source: Source = "api"
    local: bool = False

    @property
    def counted(self) -> bool:
        """Return whether its fires are counted until they have ended, because they may not overlap."""
        return self.overlap != "allow"

    @property
    def task(self) -> str:
        """Return the name of the task, or of the canvas, that a slot starts."""
        return str(self.signature.get("task", ""))
