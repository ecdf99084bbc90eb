"""Drafting: from what a user writes to a definition, or to one clear error before anything is stored."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from celery.canvas import Signature

from celery_tw.core.bounds import Bounded
from celery_tw.core.definition import Definition, Source
from celery_tw.core.misfire import Misfire
from celery_tw.core.overlap import POLICIES
from celery_tw.core.recurrence import Recurrence
from celery_tw.errors import InvalidEntry, InvalidSchedule
from celery_tw.integration.moments import aware_ms
from celery_tw.integration.schedules.written import keeps_anchor, recurrence_of, spec_of
from celery_tw.settings import Settings
from celery_tw.stores.redis.codec import DefinitionFrame

LONGEST_NAME = 200
LARGEST_PAYLOAD = 256 * 1024

OPTIONS = (
    "misfire",
    "overlap",
    "tolerance",
    "jitter",
    "start",
    "end",
    "max_runs",
    "note",
    "lane",
    "delivery",
)


@dataclass(frozen=True, slots=True)
class Draft:
    """A checked definition with its slots and its stored form.

    Drafts of a run have most of it in *common*, a definition of which name and signature are another's. *floating* when its interval's grid
    is that of the entry already stored, if any.
    """

    name: str
    signature: Mapping[str, Any]
    common: Definition
    recurrence: Recurrence
    floating: bool
    encoded: bytes

    @property
    def definition(self) -> Definition:
        """The definition, made anew each time."""
        return replace(self.common, name=self.name, signature=self.signature)


@dataclass(frozen=True, slots=True, eq=False)
class _Timing:
    """What entries with the same schedule and options have in common, worked out once for a run of them."""

    schedule: Any
    options: Mapping[str, Any]
    now_ms: int
    spec: Mapping[str, Any]
    checked: Mapping[str, Any]
    recurrence: Recurrence
    floating: bool

    def serves(self, schedule: Any, options: Mapping[str, Any], now_ms: int) -> bool:
        return schedule is self.schedule and now_ms == self.now_ms and options == self.options and not self.spec.get("hash_id")


class Drafter:
    """Checks and completes what users write, with the app's settings as defaults."""

    def __init__(self, app: Any, settings: Settings) -> None:
        self.app = app
        self.settings = settings
        self._last: _Timing | None = None
        self._framed: tuple[tuple[_Timing, Source, bool], Definition, DefinitionFrame] | None = None

    def draft(
        self,
        name: str,
        signature: Any,
        schedule: Any,
        *,
        now_ms: int,
        source: Source = "api",
        local: bool = False,
        **options: Any,
    ) -> Draft:
        """Return the definition of the entry *name*; raises `InvalidEntry` or `InvalidSchedule`."""
        timing = self._timing(checked_name(name), schedule, options, now_ms)
        plain = checked_signature(signature)
        if objection := self.settings.allowed_tasks.objection(plain):
            raise InvalidEntry(f"entry {name!r}: {objection}")
        common, frame = self._shared(timing, name, plain, source, local or timing.spec["kind"] == "custom")
        if common.local and source == "api":
            raise InvalidSchedule(
                f"the schedule of entry {name!r} is a class of its own, {timing.spec.get('repr')}: only a settings entry can have one"
            )
        return Draft(name, plain, common, timing.recurrence, timing.floating, _encoded(frame, name, plain))

    def _shared(
        self, timing: _Timing, name: str, signature: Mapping[str, Any], source: Source, local: bool
    ) -> tuple[Definition, DefinitionFrame]:
        """Return the definition of these, or of an earlier entry of their kind, and what its stored form has in common with theirs."""
        key = (timing, source, local)
        if self._framed is None or self._framed[0] != key:
            common = Definition(name=name, signature=signature, schedule=timing.spec, source=source, local=local, **timing.checked)
            self._framed = key, common, DefinitionFrame.of(common)
        return self._framed[1:]

    def _timing(self, name: str, schedule: Any, options: Mapping[str, Any], now_ms: int) -> _Timing:
        last = self._last
        if last is not None and last.serves(schedule, options, now_ms):
            return last
        checked = self._options(options)
        spec = spec_of(schedule, app=self.app, now_ms=now_ms, entry_name=name)
        if spec["kind"] == "once":
            checked["overlap"] = "allow"  # a single slot has nothing to overlap with
        inner = recurrence_of(spec, app=self.app, schedule=schedule)
        recurrence = Bounded(inner, start_ms=checked["start_ms"], end_ms=checked["end_ms"])
        self._last = _Timing(schedule, options, now_ms, spec, checked, recurrence, keeps_anchor(schedule))
        return self._last

    def _options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        unknown = sorted(set(options) - set(OPTIONS))
        if unknown:
            raise InvalidEntry(f"an entry has no option {unknown[0]!r}: expected one of {', '.join(OPTIONS)}")
        _refuse_later(options)
        return {
            "misfire": _misfire(options.get("misfire", self.settings.misfire)),
            "tolerance_ms": _ms(options.get("tolerance"), "tolerance", self.settings.fire_tolerance_ms),
            "jitter_ms": _ms(options.get("jitter"), "jitter", 0),
            "start_ms": _moment(options.get("start"), "start"),
            "end_ms": _moment(options.get("end"), "end"),
            "max_runs": _whole(options.get("max_runs"), "max_runs"),
            "note": _note(options.get("note", "")),
            "delivery": _delivery(options.get("delivery", "at_least_once")),
            "overlap": _overlap(options.get("overlap", self.settings.overlap)),
        }


def _encoded(frame: DefinitionFrame, name: str, signature: Mapping[str, Any]) -> bytes:
    """Return the stored form; raises `InvalidEntry` when it is too large or has values without a JSON form."""
    task = signature.get("task", "")
    try:
        encoded = frame.encode(name, signature)
    except (TypeError, ValueError) as error:
        raise InvalidEntry(f"entry {name!r}: the arguments of {task} cannot be written as JSON: {error}") from error
    if len(encoded) > LARGEST_PAYLOAD:
        raise InvalidEntry(
            f"entry {name!r}: the arguments and options of {task} take {len(encoded):,} bytes; "
            f"at most {LARGEST_PAYLOAD:,} are stored: pass a reference instead"
        )
    return encoded


def checked_name(name: Any) -> str:
    """Return *name* if an entry can have it; raises `InvalidEntry`."""
    if not isinstance(name, str) or not name.strip():
        raise InvalidEntry(f"an entry's name is text that is not blank, not {name!r}")
    if len(name) > LONGEST_NAME:
        raise InvalidEntry(f"an entry's name has at most {LONGEST_NAME} characters; this one has {len(name)}: {name[:40]!r}…")
    if not name.isprintable():
        raise InvalidEntry(f"an entry's name has no control characters: {name!r}")
    return name


def checked_signature(signature: Any) -> dict[str, Any]:
    """Return a signature or canvas as a plain dictionary; raises `InvalidEntry` when it is none."""
    if not isinstance(signature, Signature):
        hint = ", with its arguments: task.s(…)" if hasattr(signature, "s") else ""
        raise InvalidEntry(f"an entry sends a signature or canvas{hint}, not {type(signature).__name__}")
    return dict(signature)


def _refuse_later(options: Mapping[str, Any]) -> None:
    if options.get("lane") is not None:
        raise InvalidEntry(f"lane={options['lane']!r} is not available in this version: leave it out")


def _misfire(value: Any) -> Misfire:
    return Misfire.from_spec(value) if isinstance(value, Mapping) else Misfire.parse(value)


def _ms(value: Any, what: str, default_ms: int) -> int:
    if value is None:
        return default_ms
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise InvalidEntry(f"{what} is a number of seconds, 0 or more, not {value!r}")
    return round(value * 1000)


def _moment(value: Any, what: str) -> int | None:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise InvalidEntry(f"{what} is an aware datetime or its ISO form, not {value!r}") from error
    return None if value is None else aware_ms(value, what=what)


def _whole(value: Any, what: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidEntry(f"{what} is a whole number, 1 or more, not {value!r}")
    return value


def _note(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 1000:
        raise InvalidEntry(f"a note is text of at most 1000 characters, not {value!r:.60}")
    return value


def _overlap(value: Any) -> Any:
    if value not in POLICIES:
        raise InvalidEntry(f"overlap takes one of {', '.join(POLICIES)}, not {value!r}")
    return value


def _delivery(value: Any) -> Any:
    if value not in ("at_least_once", "at_most_once"):
        raise InvalidEntry(f"delivery is 'at_least_once' or 'at_most_once', not {value!r}")
    return value
