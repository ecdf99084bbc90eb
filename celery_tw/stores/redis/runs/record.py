"""Record: a run as it stands in Redis, for people and for the leader."""

from collections.abc import Sequence
from dataclasses import dataclass

from celery_tw.errors import MalformedRecord
from celery_tw.stores.redis.envelope import read_envelope
from celery_tw.stores.redis.runs.guards import Guard, read_guards


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A run as it stands in Redis, for people and for the leader."""

    mid: str
    state: str
    token: str
    owner: str
    task: str
    task_id: str
    at_ms: int
    losses: int
    guards: Sequence[Guard]
    envelope: bytes | None
    cancel: str | None
    counter: str = ""

    @property
    def long(self) -> bool:
        """Whether its message is on record, so that the leader can start it again."""
        return self.envelope is not None


def read_record(mid: str, found: dict[bytes, bytes], counter: bytes | None) -> Record:
    """Return the record of *mid* with the fields *found*."""

    def text(name: str) -> str:
        return found.get(name.encode(), b"").decode(errors="replace")

    envelope = found.get(b"envelope")
    task, task_id = text("task"), text("id")
    if envelope is not None and not task_id:
        task, task_id = _named_in(envelope)
    return Record(
        mid=mid,
        state=text("state"),
        token=text("token"),
        owner=text("owner"),
        task=task,
        task_id=task_id,
        at_ms=int(text("at") or 0),
        losses=int(text("lost") or 0),
        guards=read_guards(text("guards")),
        envelope=envelope,
        cancel=text("cancel") if b"cancel" in found else None,
        counter=counter.decode() if counter else "",
    )


def _named_in(envelope: bytes) -> tuple[str, str]:
    """Return the task and the task id in a message, for a run that no process has begun yet."""
    try:
        read = read_envelope(envelope)
    except MalformedRecord:
        return "", ""
    return str(read.headers.get("task") or ""), read.task_id
