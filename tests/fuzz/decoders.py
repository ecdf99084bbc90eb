"""Decoders: every reader of stored or sent text, with valid samples to be spoiled and the errors by which it may refuse."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from celery_tw.core.allowed import AllowedTasks
from celery_tw.core.definition import Definition
from celery_tw.core.misfire import Misfire, SkippedRange
from celery_tw.core.spec import recurrence_from_spec
from celery_tw.errors import InvalidEntry, InvalidSchedule, MalformedRecord, NewerSchema
from celery_tw.stores.redis.codec import OneTime, decode_definition, decode_skip, encode_definition, encode_skip, unpack_one_time
from celery_tw.stores.redis.election import _line as read_line
from celery_tw.stores.redis.envelope import Envelope, read_envelope, write_envelope
from celery_tw.stores.redis.news import read_news
from celery_tw.stores.redis.templates import cut_record, join

UNREADABLE = (MalformedRecord, NewerSchema)
IMPOSSIBLE = (InvalidSchedule, InvalidEntry)


@dataclass(frozen=True)
class Decoder:
    """A reader of bytes."""

    name: str
    read: Callable[[bytes], Any]
    samples: tuple[bytes, ...]
    refusals: tuple[type[Exception], ...]


def _spec(raw: bytes) -> Any:
    """Read a schedule spec, and ask what it answers: a rule that is read must not stall whoever asks it."""
    recurrence = recurrence_from_spec(json.loads(raw))
    slot_ms: int | None = 1_767_225_600_000
    for _ in range(3):
        if slot_ms is not None:
            slot_ms = recurrence.next_after(slot_ms)
    return slot_ms


def _object(raw: bytes) -> dict[str, Any]:
    """Return an object, as those that call a reader of plain values have made sure of."""
    value = json.loads(raw)
    return value if isinstance(value, dict) else {"": value}


def _news(raw: bytes) -> Any:
    news = read_news({b"n": b"1", b"kind": b"entries", b"what": raw})
    return news and news.entries()


def _written(*specs: dict[str, Any]) -> tuple[bytes, ...]:
    return tuple(json.dumps(spec).encode() for spec in specs)


SPECS = (
    {"kind": "cron", "expression": "0 9 * * 1-5", "zone": "Europe/Berlin", "day_or": True, "hash_id": ""},
    {"kind": "cron", "expression": "*/5 H L 2,3 MON#1", "zone": "UTC", "hash_id": "x"},
    {"kind": "interval", "period_ms": 30000, "anchor_ms": 0},
    {"kind": "once", "at_ms": 1767225600000},
    {"kind": "rrule", "rule": "FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=9;COUNT=3", "zone": "Europe/Berlin", "start_ms": 1767225600000},
    {"kind": "rrule", "rule": "FREQ=YEARLY;INTERVAL=2;BYWEEKNO=20;BYSETPOS=-1;UNTIL=20401231T000000Z", "zone": "UTC", "start_ms": 0},
)
_DEFINITION = Definition(
    name="report",
    signature={"task": "shop.report", "args": [1], "kwargs": {"a": "b"}, "options": {"queue": "q"}},
    schedule=SPECS[0],
    misfire=Misfire.catch_up(),
    jitter_ms=5,
    start_ms=1,
    end_ms=2,
    max_runs=3,
)
_ONE_TIME = OneTime(
    mid="m", name="e", stored_ms=1, last_ms=None, fingerprint="f", queue_key="q", extra={"task": "t"}, message=b"{}", task_id="id"
)
_ENVELOPE = Envelope(
    body=b"[[], {}, {}]",
    content_type="application/json",
    content_encoding="utf-8",
    headers={"id": "x", "task": "t", "tw_mid": "m"},
    properties={"priority": 0},
    exchange="",
    routing_key="celery",
)
_BEGIN, _CUT = cut_record(replace(_ONE_TIME, message=write_envelope(_ENVELOPE)).pack())
_STORED = _BEGIN + _CUT.rest
_SKIP = SkippedRange(from_ms=1, to_ms=2, count=1, reason="r")
_CANVAS = {"task": "celery.chain", "subtask_type": "chain", "kwargs": {"tasks": [{"task": "a", "options": {"link": [{"task": "b"}]}}]}}

DECODERS = (
    Decoder("definition", decode_definition, (encode_definition(_DEFINITION),), (*UNREADABLE, *IMPOSSIBLE)),
    Decoder("skipped range", decode_skip, (encode_skip(_SKIP).encode(),), UNREADABLE),
    Decoder("one-time task", unpack_one_time, (_ONE_TIME.pack(),), UNREADABLE),
    Decoder("stored record", lambda raw: join(raw, _CUT.template.text), (_STORED,), ()),
    Decoder("template", lambda raw: join(_STORED, raw), (_CUT.template.text,), ()),
    Decoder("envelope", read_envelope, (write_envelope(_ENVELOPE),), UNREADABLE),
    Decoder("news", _news, (b"2:1000,4:", b"3:5"), ()),
    Decoder("member line", read_line, _written({"counter": 1, "skew_ms": 0}), ()),
    Decoder("spec", _spec, _written(*SPECS), IMPOSSIBLE),
    Decoder("misfire", lambda raw: Misfire.from_spec(_object(raw)), _written(Misfire.catch_up().to_spec()), IMPOSSIBLE),
    Decoder("allowed tasks", lambda raw: AllowedTasks(("a",)).objection(_object(raw)), _written(_CANVAS), ()),
)
