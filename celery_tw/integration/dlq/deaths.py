"""Deaths: what a worker can tell of a task's death: the error and its place, where the task stood, who ran it."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import billiard
import celery
import kombu
from billiard.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded, WorkerLostError
from celery.exceptions import NotRegistered, Reject
from celery.exceptions import SoftTimeLimitExceeded as CelerysSoftTimeLimitExceeded

from celery_tw.core.death import (
    FAILED,
    LONGEST_MESSAGE,
    LONGEST_TRACEBACK,
    LOST,
    REJECTED,
    TIMED_OUT,
    UNREGISTERED,
    Death,
    error_fingerprint,
    shortened,
)
from celery_tw.integration.messages.identity_headers import GENERATION, MID, REPLAY_OF

_FOLDERS = (*(Path(str(module.__file__)).parent for module in (billiard, celery, kombu)), Path(__file__).parents[2])
OF_THE_MACHINERY = tuple(f"{folder}{os.sep}" for folder in _FOLDERS)
"""Where the code lies whose frames say nothing of the task."""

_FRAME = re.compile(r'File "([^"\n]+)", line \d+, in ([^\s\n]+)')
_LAST_TRACEBACK = "Traceback (most recent call last)"


def death_of(
    exception: BaseException | None,
    *,
    headers: Mapping[str, Any],
    queue: str,
    worker: str,
    traceback: str = "",
    reason: str | None = None,
    chord: Any = None,
    token: str = "",
    attempts: int | None = None,
) -> Death:
    """Return the facts of a death; *headers* are those of the message, and *chord* the body that waits for the task, as Celery has it."""
    task, kind, message = str(headers.get("task") or ""), name_of(exception), _text(exception)
    generation = headers.get(GENERATION)
    return Death(
        reason=reason or reason_of(exception),
        task=task,
        task_id=str(headers.get("id") or ""),
        mid=mid_of_headers(headers),
        queue=queue,
        generation=generation if isinstance(generation, int) else 0,
        replay_of=str(headers.get(REPLAY_OF) or ""),
        exception=kind,
        message=shortened(message, LONGEST_MESSAGE),
        traceback=shortened(traceback, LONGEST_TRACEBACK),
        fingerprint=error_fingerprint(task, kind or reason or "", message, frames_in(traceback)),
        worker=worker,
        attempts=_whole(headers.get("retries")) + 1 if attempts is None else attempts,
        group=str(headers.get("group") or ""),
        chord=_chord_id(chord),
        root=str(headers.get("root_id") or ""),
        parent=str(headers.get("parent_id") or ""),
        token=token,
    )


def reason_of(exception: BaseException | None) -> str:
    """Return the reason of a death that an exception tells of."""
    if isinstance(exception, SoftTimeLimitExceeded | TimeLimitExceeded | CelerysSoftTimeLimitExceeded):
        return TIMED_OUT
    if isinstance(exception, WorkerLostError):
        return LOST
    if isinstance(exception, Reject):
        return REJECTED
    return UNREGISTERED if isinstance(exception, NotRegistered) else FAILED


def name_of(exception: BaseException | None) -> str:
    """Return the type of an exception with its module, but for the built-in ones; the one that it stands for, if it was not picklable."""
    if exception is None:
        return ""
    stands_for = getattr(exception, "exc_cls_name", None)
    if isinstance(stands_for, str):
        return stands_for
    kind = type(exception)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def frames_in(traceback: str) -> list[tuple[str, str]]:
    """Return the file and the function of each frame of the task's own code in the last of the tracebacks that a text shows."""
    frames = _FRAME.findall(traceback.rpartition(_LAST_TRACEBACK)[2])
    return [(path.rpartition("/")[2], function) for path, function in frames if not path.startswith(OF_THE_MACHINERY)]


def _text(exception: BaseException | None) -> str:
    if exception is None:
        return ""
    try:
        return str(exception) or repr(exception)
    except Exception:  # whatever the error's own code may raise
        return f"{type(exception).__name__} cannot be shown"


def mid_of_headers(headers: Mapping[str, Any]) -> str:
    """Return the mid of a send, or what stands for it if a process without the plug-in has sent it; '' for what is no task at all."""
    if mid := headers.get(MID):
        return str(mid)
    task_id = headers.get("id")
    return f"{task_id}:{_whole(headers.get('retries'))}:{_whole(headers.get('replaced_task_nesting'))}" if task_id else ""


def _chord_id(chord: Any) -> str:
    """Return the task id of the body of a chord; its task's name when it has none yet."""
    if not isinstance(chord, Mapping):
        return ""
    options = chord.get("options")
    task_id = options.get("task_id") if isinstance(options, Mapping) else None
    return str(task_id or chord.get("task") or "chord")


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
