"""Entering fires: how the message of a recurring entry's fire comes to wait in a lane, as part of FIRE or DRAIN.

It becomes a one-time task, whose id the leader has ready. The steps stand in an order in which nothing can be refused but the first two: an
id that was reserved before data were lost may be another's by now, and what stands in the place of the lane may be none.
"""

from collections.abc import Callable
from dataclasses import dataclass

from celery_tw.core.command import Command
from celery_tw.core.definition import Delivery
from celery_tw.stores.redis.codec import OneTime
from celery_tw.stores.redis.deferring import EntryIds
from celery_tw.stores.redis.envelope import read_envelope
from celery_tw.stores.redis.templates import cut_record
from celery_tw.stores.redis.timetable import Timetable


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that the scripts FIRE and DRAIN are told to do: a *word* they know, a key and what goes there."""

    word: str
    key: str | bytes
    payload: str | bytes


class EnteringFires:
    """Takes ids from *timetable*; *fingerprint* tells for which broker the messages are rendered."""

    def __init__(self, timetable: Timetable, *, fingerprint: Callable[[], str]) -> None:
        self.keys = timetable.keys
        self.ids = EntryIds(timetable)
        self.fingerprint = fingerprint

    def steps(self, command: Command, delivery: Delivery) -> list[Step]:
        """Return what lets the message in *command* wait in its lane; may raise `StoreUnavailable` for want of an id."""
        entry_id, shard = self.ids.take(), self.keys
        begin, cut = cut_record(self._record(command, delivery).pack())
        task_id = cut.rest.split(b"\n", 3)[2]
        return [
            Step("unused", shard.entry(entry_id), b""),
            Step(f"enter {entry_id}", shard.lane(command.queue, command.lane), b""),
            Step("set", shard.entry(entry_id), begin + cut.rest),
            Step(f"share {cut.template.template_id.decode()}", shard.templates, cut.template.text),
            Step("last", shard.template_dues, cut.template.template_id),
            Step(f"list {entry_id}", shard.by_task, task_id),
            Step("sadd", shard.lanes, command.queue),
        ]

    def discard_ids(self, refusal: str) -> None:
        """Take other ids from now on, if those at hand were the reason of *refusal*."""
        if "TAKEN" in refusal:
            self.ids.discard()

    def _record(self, command: Command, delivery: Delivery) -> OneTime:
        envelope = read_envelope(command.payload)
        extra = {"task": str(envelope.headers.get("task") or ""), "queue": command.queue, "lane": command.lane}
        return OneTime(
            mid=envelope.mid,
            name="",
            stored_ms=0,
            last_ms=None,
            fingerprint=self.fingerprint(),
            queue_key=command.key.decode(),
            extra=extra if delivery == "at_least_once" else {**extra, "delivery": delivery},
            message=command.payload,
            task_id=envelope.task_id,
        )
