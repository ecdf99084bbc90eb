"""Static entries: what stands in ``beat_schedule``, and how it comes into the timetable.

The settings are read when a term begins, by the leader only. Each entry is stored with the start of the process that wrote it: during a
rolling restart an older process, with older settings, neither overwrites nor removes what a newer one wrote. An entry that is gone from the
settings is removed, again only by a process at least as new as the one that stored it.

An entry that cannot be written down whole (lazy arguments, a schedule class of the user's own, arguments that are not JSON) is stored for
people to see and is fired from the settings of the process that leads.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from celery.beat import BeatLazyFunc
from celery.schedules import BaseSchedule, crontab, maybe_schedule
from celery.schedules import schedule as interval
from kombu.utils import json as kombu_json

from celery_tw.core.definition import Definition
from celery_tw.errors import CeleryTWError, InvalidEntry, InvalidSchedule
from celery_tw.integration.entries.drafting import LONGEST_NAME, OPTIONS, Draft, Drafter
from celery_tw.integration.entries.storing import Outcome, Storing
from celery_tw.stores.redis.timetable import Timetable
from celery_tw.stores.redis.writing import CHUNK

logger = logging.getLogger(__name__)

FIELDS = ("task", "schedule", "args", "kwargs", "options", "relative")
FORMS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "args": ((list, tuple), "a list or tuple"),
    "kwargs": ((Mapping,), "a dictionary"),
    "options": ((Mapping,), "a dictionary"),
}
CANVASES = {"celery.chain": "chain", "celery.group": "group", "celery.chord": "chord"}
"""What ``add_periodic_task`` leaves of a canvas is the name of its task; stock beat cannot send a chain or a group from that, we can."""

CLEANUP = "celery.backend_cleanup"
CLEANUP_EXPIRES_S = 12 * 3600


@dataclass(frozen=True, slots=True)
class Static:
    """One entry of the settings, live: its schedule object, and arguments that may be lazy."""

    name: str
    task: str
    schedule: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    options: Mapping[str, Any]
    wheel_options: Mapping[str, Any]

    @property
    def lazy(self) -> bool:
        """Return whether some argument is computed anew for each fire."""
        return any(isinstance(value, BeatLazyFunc) for value in (*self.args, *self.kwargs.values()))

    def evaluated_args(self) -> tuple[Any, ...]:
        return tuple(_evaluated(value) for value in self.args)

    def evaluated_kwargs(self) -> dict[str, Any]:
        return {key: _evaluated(value) for key, value in self.kwargs.items()}


def read_settings(app: Any) -> dict[str, Static]:
    """Return the entries of ``beat_schedule`` and ``add_periodic_task``, by their names in the timetable.

    An entry that is no entry at all is left out and stops no other: the leader, who stores them, says so.
    """
    return {read.name: read for _, read in _read(app) if isinstance(read, Static)}


def _read(app: Any) -> Iterator[tuple[str, Static | Exception]]:
    """Yield each entry of the settings, by its name there, or what is wrong with it."""
    for name, fields in _with_cleanup(app).items():
        try:
            yield str(name), _static(app, str(name), fields)
        except (CeleryTWError, TypeError, ValueError, OverflowError) as error:
            yield str(name), error


def _with_cleanup(app: Any) -> dict[str, Any]:
    """Return the settings with the entry that stock beat adds for result backends that do not expire results themselves."""
    entries = dict(app.conf.beat_schedule)
    if CLEANUP not in entries and app.conf.result_expires and not app.backend.supports_autoexpire:
        entries[CLEANUP] = {"task": CLEANUP, "schedule": crontab("0", "4", "*"), "options": {"expires": CLEANUP_EXPIRES_S}}
    return entries


def _static(app: Any, name: str, fields: Any) -> Static:
    if not isinstance(fields, Mapping):
        raise InvalidEntry(f"an entry is a dictionary with task and schedule, not {type(fields).__name__}")
    unknown = sorted(set(fields) - set(FIELDS))
    if unknown:
        raise InvalidEntry(f"an entry has no field {unknown[0]!r}: expected {', '.join(FIELDS)}")
    if not isinstance(fields.get("task"), str) or fields.get("schedule") is None:
        raise InvalidEntry("an entry needs the name of a task and a schedule")
    for field, (forms, words) in FORMS.items():
        if fields.get(field) is not None and not isinstance(fields[field], forms):
            raise InvalidEntry(f"{field} is {words}, not {fields[field]!r:.60}")
    options = dict(fields.get("options") or {})
    wheel_options = options.pop("tw", None) or {}
    if not isinstance(wheel_options, Mapping) or set(wheel_options) - set(OPTIONS):
        raise InvalidEntry(f"options['tw'] is a dictionary with some of {', '.join(OPTIONS)}, not {wheel_options!r}")
    if wheel_options.get("lane") is not None:
        options["lane"] = wheel_options["lane"]
    return Static(
        name=stored_name(name),
        task=fields["task"],
        schedule=_schedule(fields["schedule"], bool(fields.get("relative", False)), app),
        args=tuple(fields.get("args") or ()),
        kwargs=dict(fields.get("kwargs") or {}),
        wheel_options=wheel_options,
        options=options,
    )


def _schedule(given: Any, relative: bool, app: Any) -> Any:
    """Return the schedule as Celery reads it: ``relative`` speaks of a plain interval. What is no schedule is refused by the drafter."""
    if not isinstance(given, int | float | timedelta | BaseSchedule):
        return given
    if isinstance(given, interval) and not isinstance(given, crontab) and relative:
        given.relative = True
    return maybe_schedule(given, relative, app=app)


def required_static(statics: Mapping[str, Static], definition: Definition) -> Static:
    """Return the live entry behind a *local* definition; raises `CeleryTWError` when this process's settings do not have it."""
    static = statics.get(definition.name)
    if static is None:
        raise CeleryTWError(
            f"entry {definition.name!r} can only be fired from settings, and the beat_schedule of this process does not have it"
        )
    return static


def stored_name(name: str) -> str:
    """Return *name*, or when it is longer than a name may be, its beginning and a hash of it: Celery makes names of ``repr``s."""
    text = "".join(sign if sign.isprintable() else " " for sign in name)
    if len(text) <= LONGEST_NAME:
        return text
    return f"{text[: LONGEST_NAME - 20]}…{hashlib.blake2b(name.encode(), digest_size=8).hexdigest()}"


def _evaluated(value: Any) -> Any:
    return value() if isinstance(value, BeatLazyFunc) else value


class Installer:
    """Brings the settings entries into the timetable when a term begins."""

    def __init__(
        self,
        app: Any,
        timetable: Timetable,
        *,
        drafter: Drafter,
        storing: Callable[[], Storing],
        statics: dict[str, Static],
        process_start_ms: Callable[[], int],
        on_progress: Callable[[], None] = lambda: None,
    ) -> None:
        self.app = app
        self.timetable = timetable
        self.drafter = drafter
        self.storing = storing
        self.statics = statics
        self.process_start_ms = process_start_ms
        self.on_progress = on_progress

    def install(self) -> None:
        """Store what the settings say, remove what they no longer say; leave alone what a newer process wrote.

        An entry that is written there but cannot be read stays as it was stored.
        """
        self._read()
        start_ms = self.process_start_ms()
        before = self.timetable.static.stored()
        drafts = self._drafts(self.timetable.now_ms())
        for first in range(0, len(drafts), CHUNK):
            self.on_progress()
            self._store(drafts[first : first + CHUNK], start_ms, before)
        self._remove_gone(before, start_ms)

    def _read(self) -> None:
        self.statics.clear()
        for name, read in _read(self.app):
            if isinstance(read, Static):
                self.statics[read.name] = read
            else:
                logger.error("entry %r of beat_schedule is left out: %s", name, read)

    def _drafts(self, now_ms: int) -> list[Draft]:
        drafts = []
        for static in self.statics.values():
            self.on_progress()
            try:
                draft = self._draft(static, now_ms)
            except CeleryTWError as error:
                logger.error("entry %r of beat_schedule is left out: %s", static.name, error)
                continue
            if draft.recurrence.next_after(now_ms) is not None or self.timetable.find_living(static.name) is not None:
                drafts.append(draft)
            else:
                logger.info("entry %r of beat_schedule has no slot any more: left out", static.name)
        return drafts

    def _draft(self, static: Static, now_ms: int) -> Draft:
        storable, local = _storable(static)
        fields = dict(zip(("args", "kwargs", "options"), storable, strict=True))
        kind = None if local else CANVASES.get(static.task)
        return self.drafter.draft(
            static.name,
            self.app.signature({"task": static.task, "subtask_type": kind, "immutable": False, **fields}),
            static.schedule,
            now_ms=now_ms,
            source="settings",
            local=local,
            **static.wheel_options,
        )

    def _store(self, drafts: list[Draft], start_ms: int, before: Mapping[str, int]) -> None:
        outcomes = self._store_apart(drafts, start_ms)
        for outcome in outcomes:
            if outcome.status == "older":
                logger.warning("entry %r was written by a process that started later: its settings stand", outcome.name)
        unchanged = [outcome.name for outcome in outcomes if outcome.status == "unchanged" and before.get(outcome.name, 0) < start_ms]
        if unchanged:
            self.timetable.static.claim(unchanged, process_start_ms=start_ms)

    def _store_apart(self, drafts: list[Draft], start_ms: int) -> list[Outcome]:
        """Store all at once, or when one of them is refused one by one, so that it harms no other."""
        try:
            return self.storing().store(drafts, now_ms=self.timetable.now_ms(), process_start_ms=start_ms)
        except (InvalidEntry, InvalidSchedule) as error:
            if len(drafts) > 1:
                return [outcome for draft in drafts for outcome in self._store_apart([draft], start_ms)]
            logger.error("entry %r of beat_schedule is left out: %s", drafts[0].name, error)
            return []

    def _remove_gone(self, before: Mapping[str, int], start_ms: int) -> None:
        written = {stored_name(str(name)) for name in _with_cleanup(self.app)}
        for name in before.keys() - written:
            entry_id = self.timetable.find_living(name)
            if entry_id is None:
                self.timetable.static.disclaim(name, process_start_ms=start_ms)
            elif self.timetable.writing.remove(name, entry_id, process_start_ms=start_ms) == "removed":
                logger.info("entry %r is gone from beat_schedule: removed", name)


def _storable(static: Static) -> tuple[tuple[Any, Any, Any], bool]:
    """Return arguments and options as they can be stored, and whether something had to be left to the settings."""
    whole = static.args, dict(static.kwargs), dict(static.options)
    if static.lazy:
        return _described(static), True
    try:
        kombu_json.dumps(whole)
    except (TypeError, ValueError):
        return _described(static), True
    return whole, False


def _described(static: Static) -> tuple[Any, Any, Any]:
    args = [_word(value) for value in static.args]
    kwargs = {key: _word(value) for key, value in static.kwargs.items()}
    return args, kwargs, {key: _word(value) for key, value in static.options.items()}


def _word(value: Any) -> Any:
    """Return *value*, or words for it when it has no JSON form; without addresses, so that equal settings stay equal."""
    if isinstance(value, BeatLazyFunc):
        return "<computed for each fire>"
    try:
        kombu_json.dumps(value)
    except (TypeError, ValueError):
        return f"<{type(value).__name__}, kept in the settings>"
    return value
