"""AllowedTasks: which tasks the timetable may send.

Patterns as in a shell, of ``*`` and ``?`` only: ``shop.reports.*``. Without any, every task is allowed. A canvas is taken apart: each task
in it has to be allowed, callbacks and the body of a chord included. The names of the canvas types themselves (``celery.chain``) stand for
their parts and are not asked about; sent as plain tasks, whose arguments may hold anything, they are.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

PATTERN = re.compile(r"[^\s\[\]]{1,200}")
CANVAS = frozenset(
    {"celery.accumulate", "celery.chain", "celery.chord", "celery.chunks", "celery.group", "celery.map", "celery.starmap"},
)
DEEPEST = 50


@dataclass(frozen=True, slots=True)
class AllowedTasks:
    """The tasks that *patterns* name; None allows all."""

    patterns: tuple[str, ...] | None = None

    def __bool__(self) -> bool:
        """Return whether anything is restricted."""
        return self.patterns is not None

    def allows(self, task: str) -> bool:
        """Return whether a task of that name may be sent."""
        return self.patterns is None or any(fnmatchcase(task, pattern) for pattern in self.patterns)

    def objection(self, signature: Mapping[str, Any]) -> str | None:
        """Return why *signature* may not be sent, or None."""
        if self.patterns is None:
            return None
        refused = next((task for task in _tasks(signature, 0) if not self.allows(task)), None)
        return None if refused is None else f"the task {refused!r} is not among tw_allowed_tasks"

    def in_lua(self) -> str:
        """Return the patterns as Lua has them, one a line; '' when nothing is restricted."""
        return "" if self.patterns is None else "\n".join(f"^{_lua(pattern)}$" for pattern in self.patterns) or "^$"


def _tasks(signature: Any, depth: int) -> Iterator[str]:
    """Yield the name of each task in *signature*; what is no signature, or lies too deep, has the name ''."""
    if not isinstance(signature, Mapping) or depth > DEEPEST:
        yield ""
        return
    name, options = str(signature.get("task") or ""), signature.get("options") or {}
    if name in CANVAS and signature.get("subtask_type"):
        yield from _parts(signature, depth)
    else:
        yield name
    if isinstance(options, Mapping):
        for callback in ("link", "link_error", "chord"):
            yield from _several(options.get(callback), depth)
    yield from _several(signature.get("chord"), depth)


def _parts(signature: Mapping[str, Any], depth: int) -> Iterator[str]:
    arguments = signature.get("kwargs")
    for part in ("tasks", "header", "body", "task"):
        yield from _several(arguments.get(part) if isinstance(arguments, Mapping) else "", depth)


def _several(parts: Any, depth: int) -> Iterator[str]:
    if parts is None:
        return
    for part in parts if isinstance(parts, list | tuple) else [parts]:
        yield from _tasks(part, depth + 1)


def _lua(pattern: str) -> str:
    signs = {"*": ".*", "?": "."}
    return "".join(
        signs.get(sign) or (sign if sign.isalnum() and sign.isascii() else f"%{sign}" if sign.isascii() else sign) for sign in pattern
    )
