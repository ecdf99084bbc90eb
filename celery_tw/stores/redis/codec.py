"""Codec: how definitions, skipped ranges and one-time tasks are written in Redis.

A definition is JSON with a schema version; fields that this version does not know are passed over, and a *newer* schema
is told apart from a broken record, because the right answers differ: an older process steps back, a broken record goes to quarantine.
Values that JSON has no word for (datetimes, UUIDs, decimals) are written by kombu's encoder, as in Celery's own messages; nothing stored
is ever imported or unpickled.

A one-time task is one string, nine lines and then its message. It is stored in a shorter form, which Redis can take apart without parsing
JSON (``templates.py``).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from json.encoder import encode_basestring_ascii
from typing import Any
from uuid import uuid4

from kombu.utils import json as kombu_json

from celery_tw.core.definition import Definition
from celery_tw.core.misfire import Misfire, SkippedRange
from celery_tw.core.overlap import POLICIES
from celery_tw.errors import MalformedRecord, NewerSchema

SCHEMA = 1
LONGEST_VERSION = 9
EXTRA_LINE = 9
"""The line of a whole one-time task that holds its extra JSON, counted from 1."""

_DEFAULTS = Definition(name="", signature={}, schedule={})
_ENCODER = kombu_json.JSONEncoder(sort_keys=True, separators=(",", ":"))


def encode_definition(definition: Definition) -> bytes:
    """Return *definition* as canonical JSON: equal definitions give equal bytes.

    Raises `TypeError` or `ValueError` when a value has no JSON form.
    """
    record: dict[str, Any] = {
        "v": SCHEMA,
        "name": definition.name,
        "signature": definition.signature,
        "schedule": definition.schedule,
        "misfire": definition.misfire.to_spec(),
        "tolerance_ms": definition.tolerance_ms,
        "source": definition.source,
    }
    for field in ("jitter_ms", "start_ms", "end_ms", "max_runs", "note", "delivery", "overlap", "local"):
        value = getattr(definition, field)
        if value != getattr(_DEFAULTS, field):
            record[field] = value
    text: str = _ENCODER.encode(record)
    return text.encode()


@dataclass(frozen=True, slots=True)
class DefinitionFrame:
    """The JSON that definitions have in common which differ in name and signature only: what stands before, between and after the two."""

    before: str
    between: str
    after: str

    @classmethod
    def of(cls, definition: Definition) -> "DefinitionFrame":
        """Return the frame of *definition*."""
        mark = uuid4().hex
        text = encode_definition(replace(definition, name=mark, signature={mark: 0})).decode()
        before, between, after = text.replace(f'{{"{mark}":0}}', f'"{mark}"').split(f'"{mark}"')
        return cls(before, between, after)

    def encode(self, name: str, signature: Mapping[str, Any]) -> bytes:
        """Return what `encode_definition` returns; raises as it does."""
        inner: str = _ENCODER.encode(signature)
        return f"{self.before}{encode_basestring_ascii(name)}{self.between}{inner}{self.after}".encode()


def decode_definition(raw: bytes | None) -> Definition:
    """Return the definition in *raw*; raises `MalformedRecord` or `NewerSchema`."""
    record = _load_object(raw)
    _check_schema(record)
    try:
        return Definition(
            name=_text(record, "name"),
            signature=_mapping(record, "signature"),
            schedule=_mapping(record, "schedule"),
            misfire=Misfire.from_spec(_mapping(record, "misfire")),
            tolerance_ms=int(record["tolerance_ms"]),
            source="settings" if record.get("source") == "settings" else "api",
            jitter_ms=int(record.get("jitter_ms", 0)),
            start_ms=_whole(record, "start_ms"),
            end_ms=_whole(record, "end_ms"),
            max_runs=_whole(record, "max_runs"),
            note=str(record.get("note", "")),
            delivery="at_most_once" if record.get("delivery") == "at_most_once" else "at_least_once",
            overlap=_overlap(record.get("overlap", "allow")),
            local=bool(record.get("local", False)),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise MalformedRecord(f"a definition lacks or misstates a field: {error!r}") from error


def _load_object(raw: bytes | None) -> Mapping[str, Any]:
    if raw is None:
        raise MalformedRecord("the entry has no definition")
    try:
        record = kombu_json.loads(raw)
    except (ValueError, TypeError, RecursionError) as error:
        raise MalformedRecord(f"the record is not JSON: {error}") from error
    if not isinstance(record, dict):
        raise MalformedRecord(f"the record is a {type(record).__name__}, not an object")
    return record


def _check_schema(record: Mapping[str, Any]) -> None:
    version = record.get("v")
    if not isinstance(version, int):
        raise MalformedRecord(f"the record has no schema version but {version!r}")
    if version > SCHEMA:
        raise NewerSchema(f"the record has schema {version}; this version of celery-tw reads up to {SCHEMA}")


def _text(record: Mapping[str, Any], field: str) -> str:
    value = record[field]
    if not isinstance(value, str):
        raise MalformedRecord(f"{field} is a {type(value).__name__}, not text")
    return value


def _whole(record: Mapping[str, Any], field: str) -> int | None:
    value = record.get(field)
    if value is not None and not isinstance(value, int):
        raise MalformedRecord(f"{field} is a {type(value).__name__}, not a whole number")
    return value


def _overlap(value: Any) -> Any:
    if value not in POLICIES:
        raise MalformedRecord(f"overlap is {value!r}, not one of {', '.join(POLICIES)}")
    return value


def _mapping(record: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    value = record[field]
    if not isinstance(value, dict):
        raise MalformedRecord(f"{field} is a {type(value).__name__}, not an object")
    return value


def encode_skip(skipped: SkippedRange) -> str:
    """Return a skipped range as JSON."""
    record = {
        "from_ms": skipped.from_ms,
        "to_ms": skipped.to_ms,
        "count": skipped.count,
        "at_least": skipped.at_least,
        "reason": skipped.reason,
    }
    return json.dumps(record, separators=(",", ":"))


def decode_skip(raw: bytes) -> SkippedRange:
    """Return the skipped range in *raw*; raises `MalformedRecord`."""
    record = _load_object(raw)
    try:
        return SkippedRange(
            from_ms=int(record["from_ms"]),
            to_ms=int(record["to_ms"]),
            count=int(record["count"]),
            reason=str(record["reason"]),
            at_least=bool(record.get("at_least", False)),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise MalformedRecord(f"a skipped range lacks or misstates a field: {error!r}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class OneTime:
    """A one-time task as stored: its ready message, and what is needed to find, judge and show it.

    *message* is the broker's own form of it and goes to the list *queue_key* unchanged, as long as the broker's *fingerprint* is the
    same. Later than *last_ms* it is skipped instead. *task_id* is the id under which ``by-task`` lists it, if any. *extra* is plain JSON
    for people (note, policy, digest of the definition).
    """

    mid: str
    name: str
    stored_ms: int
    last_ms: int | None
    fingerprint: str
    queue_key: str
    extra: Mapping[str, Any]
    message: bytes
    task_id: str = ""

    def pack(self) -> bytes:
        """Return the whole record."""
        return f"1\n{self.mid}\n{self.stored_ms}\n".encode() + self.pack_rest()

    def pack_rest(self) -> bytes:
        """Return all of the record that follows the moment of storing, which some scripts write themselves."""
        facts = (
            "" if self.last_ms is None else str(self.last_ms),
            self.name,
            self.task_id,
            self.fingerprint,
            self.queue_key,
            json.dumps(self.extra, sort_keys=True, separators=(",", ":")),
        )
        return "\n".join(facts).encode() + b"\n" + self.message


def unpack_one_time(raw: bytes) -> OneTime:
    """Return the one-time task in *raw*; raises `MalformedRecord` or `NewerSchema`."""
    parts = raw.split(b"\n", 9)
    if parts[0].isdigit() and len(parts[0]) <= LONGEST_VERSION and int(parts[0]) > SCHEMA:
        raise NewerSchema(f"a one-time task has schema {int(parts[0])}; this version of celery-tw reads up to {SCHEMA}")
    if len(parts) != 10 or not parts[0].isdigit():
        raise MalformedRecord(f"a one-time task has {len(parts)} parts, not ten: its record is spoiled, or its template is missing")
    try:
        _, mid, stored, last, name, task_id, fingerprint, queue_key, extra = (part.decode() for part in parts[:9])
        return OneTime(
            mid=mid,
            name=name,
            stored_ms=int(stored),
            last_ms=int(last) if last else None,
            fingerprint=fingerprint,
            queue_key=queue_key,
            extra=_extra(extra),
            message=parts[9],
            task_id=task_id,
        )
    except (ValueError, RecursionError) as error:
        raise MalformedRecord(f"a one-time task cannot be read: {error}") from error


def _extra(text: str) -> Mapping[str, Any]:
    extra = json.loads(text)
    if not isinstance(extra, dict):
        raise MalformedRecord(f"what a one-time task says of itself is a {type(extra).__name__}, not an object")
    return extra
