"""Claim: a run that wants to begin, and what Redis answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from celery_tw.stores.redis.runs.guards import Guard


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A run that wants to begin; *owner* names this very attempt, and begins with the process.

    The message of a *long* run may have been sent *once_more*, because it came to nobody.
    """

    mid: str
    owner: str
    task: str
    task_id: str
    guards: Sequence[Guard] = ()
    long: bool = False
    once_more: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What ACQUIRE said: *verdict* is run, ran, done, busy, wait or leaderless.

    *guard* is the one that says wait, and *wait_ms* how long it may take. *stored* tells of a busy run that it has its message on record.
    *passed_over* are the mids of heads of an order that did not start.
    """

    verdict: str
    token: str = ""
    losses: int = 0
    result: bytes = b""
    wait_ms: int = 0
    guard: Guard | None = None
    stored: bool = False
    passed_over: Sequence[str] = ()


def read_answer(verdict: str, facts: list[Any], guards: Sequence[Guard]) -> Answer:
    """Return what ACQUIRE said about a run with these *guards*."""
    return _ANSWERS[verdict](facts, guards)


_ANSWERS: dict[str, Callable[[list[Any], Sequence[Guard]], Answer]] = {
    "run": lambda facts, _: Answer(
        verdict="run",
        token=facts[0].decode(),
        losses=int(facts[1]),
        passed_over=tuple(facts[2].decode().split()) if len(facts) > 2 else (),
    ),
    "ran": lambda facts, _: Answer(verdict="ran", token=facts[0].decode(), result=facts[1] or b""),
    "done": lambda _, __: Answer(verdict="done"),
    "busy": lambda facts, _: Answer(verdict="busy", wait_ms=int(facts[0]), stored=bool(facts[1])),
    "wait": lambda facts, guards: Answer(
        verdict="wait", guard=guards[int(facts[0])], wait_ms=int(facts[1]), passed_over=tuple(facts[2].decode().split())
    ),
    "leaderless": lambda _, __: Answer(verdict="leaderless"),
}
