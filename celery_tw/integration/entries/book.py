"""Book: the verbs of people and programs on the timetable's entries."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from datetime import datetime, tzinfo
from functools import partial
from itertools import islice
from typing import Any

from celery.canvas import Signature
from celery.result import AsyncResult

from celery_tw.clock import RedisTime, SystemClock
from celery_tw.core.bounds import Bounded
from celery_tw.core.definition import Definition
from celery_tw.core.recurrence import Recurrence, count_between, last_between
from celery_tw.core.upsert import undecided
from celery_tw.core.zones import zone
from celery_tw.errors import CeleryTWError, InvalidEntry, MalformedRecord, StaticEntry, UnknownEntry
from celery_tw.integration.entries.drafting import Drafter, checked_name
from celery_tw.integration.entries.reading import Reading
from celery_tw.integration.entries.storing import Begun, Storing
from celery_tw.integration.entries.views import Backfill, Entry, Page, Slot, Stored
from celery_tw.integration.moments import aware_ms, from_ms
from celery_tw.integration.schedules.timezone import zone_name
from celery_tw.integration.schedules.written import recurrence_of, spec_of
from celery_tw.scheduler.decision import first_due_ms
from celery_tw.stores.redis.codec import decode_definition, unpack_one_time
from celery_tw.stores.redis.keys import is_one_time
from celery_tw.stores.redis.line import Line
from celery_tw.stores.redis.scripts import asked_twice
from celery_tw.stores.redis.timetable import Stored as StoredEntry
from celery_tw.stores.redis.timetable import Timetable
from celery_tw.stores.redis.writing import CHUNK

RACES = 10
LONGEST_BACKFILL = 100_000


class Book:
    """Adds, changes, shows and removes entries. All moments are aware datetimes; all durations are seconds."""

    def __init__(self, app: Any, timetable: Timetable, *, drafter: Drafter, storing: Storing, reading: Reading) -> None:
        self.app = app
        self.timetable = timetable
        self.drafter = drafter
        self.storing = storing
        self.reading = reading

    def schedule(self, name: str, signature: Signature, schedule: Any, **options: Any) -> Entry:
        """Store the entry *name*, or change it; see `TimeWheel.schedule`."""
        now_ms = self.timetable.now_ms()
        draft = self.drafter.draft(name, signature, schedule, now_ms=now_ms, **options)
        self._refuse_static(name)
        (outcome,) = self.storing.store([draft], now_ms=now_ms)
        try:
            return self.entry(name)
        except UnknownEntry:  # it was due at once and has been fired
            return self.reading.fired(draft.definition, outcome.entry_id)

    def schedule_many(self, specs: Iterable[Mapping[str, Any]]) -> Stored:
        """Store many entries; see `TimeWheel.schedule_many`."""
        redis_time = RedisTime(SystemClock())
        redis_time.observe(self.timetable.now_ms())
        statuses: Counter[str] = Counter()
        begun: Begun | None = None
        with closing(Line(self.timetable.client)) as line:
            for chunk in _chunks(specs):
                try:
                    now_ms = redis_time.now_ms()
                    drafts = [self.drafter.draft(now_ms=now_ms, **_spec(spec)) for spec in chunk]
                    self._refuse_static(*(draft.name for draft in drafts))
                    following = self.storing.begin(line, drafts, now_ms=now_ms)
                finally:
                    statuses.update(_statuses(begun))
                begun = following
            statuses.update(_statuses(begun))
        return Stored(put=statuses["put"], unchanged=statuses["unchanged"])

    def _refuse_static(self, *names: str) -> None:
        for name in self.timetable.static.among(names):
            raise StaticEntry(name)

    def entry(self, name: str) -> Entry:
        """Return the entry *name*; raises `UnknownEntry`."""
        return self.reading.entry(name, self._find(name))

    def entries(self, *, prefix: str = "", limit: int = 100, cursor: int | None = None) -> Page:
        """Return about *limit* entries whose names begin with *prefix*, and a cursor for more; raises `InvalidEntry`."""
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise InvalidEntry(f"limit is a whole number, 1 or more, not {limit!r}")
        following, named = self.timetable.names(prefix=prefix, limit=limit, cursor=cursor or 0)
        return Page(entries=self.reading.entries(sorted(named)), cursor=following or None)

    def _find(self, name: str) -> int:
        entry_id = self.timetable.find_living(checked_name(name))
        if entry_id is None:
            raise UnknownEntry(name)
        return entry_id

    def remove(self, name: str) -> None:
        """Remove the entry *name*; raises `UnknownEntry` or `StaticEntry`."""
        status = self.timetable.writing.remove(name, self._find(name))
        if status == "gone":
            raise UnknownEntry(name)
        if status != "removed":
            raise StaticEntry(name)

    def pause(self, name: str, *, note: str = "") -> Entry:
        """Keep *name* from firing until it is resumed; pausing twice changes only the note."""
        return self._set_paused(name, paused=True, note=note)

    def resume(self, name: str) -> Entry:
        """Let *name* fire again, from now on; slots that passed meanwhile are recorded as skipped."""
        return self._set_paused(name, paused=False, note="")

    def _set_paused(self, name: str, *, paused: bool, note: str) -> Entry:
        entry_id = self._find(name)
        if is_one_time(entry_id):
            if self.timetable.writing.hold(entry_id, pause=paused) == "gone":
                raise UnknownEntry(name)
            return self.entry(name)
        for _ in range(RACES):
            stored = self._stored(name, entry_id)
            if stored.paused == paused and stored.pause_note == note:
                return self.entry(name)
            if self._write_paused(stored, paused=paused, note=note):
                return self.entry(name)
        raise CeleryTWError(f"entry {name!r} is being changed by others all the time: try again")

    def _write_paused(self, stored: StoredEntry, *, paused: bool, note: str) -> bool:
        now_ms = self.timetable.now_ms()
        definition = decode_definition(stored.definition)
        recurrence = self._recurrence(definition)
        reason = "paused" if not paused else "open when paused"
        skipped = None if stored.paused and paused else undecided(recurrence, mark_ms=stored.mark_ms, now_ms=now_ms, reason=reason)
        mark_ms = stored.mark_ms if stored.paused and paused else max(stored.mark_ms, now_ms)
        done = definition.max_runs is not None and stored.count >= definition.max_runs
        due_ms = None if paused or done else first_due_ms(definition, recurrence, entry_id=stored.entry_id, mark_ms=mark_ms)
        fields = [("paused", "1" if paused else "0"), ("pause_note", note), ("mark", str(mark_ms))]
        return self.timetable.writing.change(
            stored.entry_id, version=stored.version, mark_ms=stored.mark_ms, due_ms=due_ms, fields=fields, skipped=skipped
        )

    def _stored(self, name: str, entry_id: int) -> StoredEntry:
        (stored,) = self.timetable.read([entry_id])
        if stored is None or stored.removed:
            raise UnknownEntry(name)
        return stored

    def _recurrence(self, definition: Definition) -> Recurrence:
        live = self.reading.live_schedule(definition)
        inner = recurrence_of(definition.schedule, app=self.app, schedule=live)
        return Bounded(inner, start_ms=definition.start_ms, end_ms=definition.end_ms)

    def trigger(self, name: str) -> AsyncResult:
        """Send the task of *name* now, besides its slots; return its result."""
        entry_id = self._find(name)
        if is_one_time(entry_id):
            return self._trigger_one_time(name, entry_id)
        definition = decode_definition(self._stored(name, entry_id).definition)
        if objection := self.drafter.settings.allowed_tasks.objection(definition.signature):
            raise InvalidEntry(f"entry {name!r}: {objection}")
        headers = {"periodic_task_name": name, "tw_trigger": True}
        return self.reading.live_signature(definition).apply_async(headers=headers)

    def _trigger_one_time(self, name: str, entry_id: int) -> AsyncResult:
        record, _, _ = self.timetable.read_one_time(entry_id)
        if record is None:
            raise UnknownEntry(name)
        if not self.timetable.writing.hurry(entry_id):
            raise UnknownEntry(name)
        return self.app.AsyncResult(unpack_one_time(record).mid)

    def preview(self, what: Any, *, n: int = 10, tz: str | tzinfo | None = None, after: datetime | None = None) -> list[datetime]:
        """Return the next *n* slots of an entry, by name, or of a schedule, in zone *tz* (the app's by default)."""
        after_ms = self.timetable.now_ms() if after is None else aware_ms(after, what="after")
        where = self.app.timezone if tz is None else zone(zone_name(tz))
        slots: list[datetime] = []
        recurrence = self._previewed(what, after_ms)
        slot_ms = recurrence.next_after(after_ms)
        while slot_ms is not None and len(slots) < n:
            slots.append(from_ms(slot_ms).astimezone(where))
            slot_ms = recurrence.next_after(slot_ms)
        return slots

    def _previewed(self, what: Any, now_ms: int) -> Recurrence:
        if not isinstance(what, str):
            return recurrence_of(spec_of(what, app=self.app, now_ms=now_ms, entry_name="preview"), app=self.app, schedule=what)
        entry_id = self._find(what)
        if is_one_time(entry_id):
            _, due_ms, _ = self.timetable.read_one_time(entry_id)
            return recurrence_of({"kind": "once", "at_ms": due_ms or 0}, app=self.app)
        return self._recurrence(decode_definition(self._stored(what, entry_id).definition))

    def history(self, name: str, *, limit: int = 60) -> list[Slot]:
        """Return the last *limit* fires and skipped ranges of *name*, newest first.

        A one-time task that has left the timetable is known for 30 days if it was skipped.
        """
        entry_id = self.timetable.find_living(checked_name(name))
        slots = self.reading.skipped_one_time(name) if entry_id is None else self.reading.history(entry_id, limit)
        if entry_id is None and not slots:
            raise UnknownEntry(name)
        return slots

    def backfill(self, name: str, start: datetime, end: datetime, *, rate: float | None = None, dry_run: bool = False) -> Backfill:
        """Fire the slots of *name* in [start, end] again, oldest first, *rate* a second; see `TimeWheel.backfill`."""
        entry_id = self._find(name)
        if is_one_time(entry_id):
            raise InvalidEntry(f"{name!r} is a one-time task: there is nothing to fill in")
        from_ms_, to_ms_ = aware_ms(start, what="start"), min(aware_ms(end, what="end"), self.timetable.now_ms())
        recurrence = self._recurrence(decode_definition(self._stored(name, entry_id).definition))
        count = count_between(recurrence, from_ms_ - 1, to_ms_, limit=LONGEST_BACKFILL + 1) if from_ms_ <= to_ms_ else 0
        if count > LONGEST_BACKFILL:
            raise InvalidEntry(f"a backfill takes at most {LONGEST_BACKFILL:,} slots: take a shorter range of {name!r}")
        if rate is not None and not rate > 0:
            raise InvalidEntry(f"rate is a number of slots a second above 0, not {rate!r}")
        first_ms = recurrence.next_after(from_ms_ - 1) if count else None
        last_ms = last_between(recurrence, from_ms_ - 1, to_ms_) if count else None
        found = Backfill(slots=count, first=_moment(first_ms), last=_moment(last_ms), generation=None)
        if dry_run or first_ms is None or last_ms is None:
            return found
        number = self.timetable.next_number()
        ask = partial(  # the number makes a repetition harmless
            self.timetable.writing.open_backlog,
            entry_id,
            number=number,
            from_ms=first_ms,
            to_ms=last_ms,
            first_ms=first_ms,
            left=count,
            rate=rate,
        )
        return replace(found, generation=asked_twice(ask))

    def ahead_of_time(self) -> list[tuple[str, datetime]]:
        """Return the entries whose mark lies in the future, each with its mark: they will not fire before it."""
        now_ms = self.timetable.now_ms() + 1000
        return [(name, from_ms(stored.mark_ms)) for name, stored in self._recurring() if stored.mark_ms > now_ms]

    def repair_marks(self) -> list[str]:
        """Set marks that lie in the future to now, so that their entries fire again; return the entries' names."""
        repaired = []
        now_ms = self.timetable.now_ms()
        for name, stored in self._recurring():
            if stored.mark_ms > now_ms + 1000 and self._rewind(stored, now_ms):
                repaired.append(name)
        return repaired

    def _rewind(self, stored: StoredEntry, now_ms: int) -> bool:
        try:
            definition = decode_definition(stored.definition)
        except MalformedRecord:
            return False
        due_ms = first_due_ms(definition, self._recurrence(definition), entry_id=stored.entry_id, mark_ms=now_ms)
        done = definition.max_runs is not None and stored.count >= definition.max_runs
        return self.timetable.writing.change(
            stored.entry_id,
            version=stored.version,
            mark_ms=stored.mark_ms,
            due_ms=None if stored.paused or done else due_ms,
            fields=[("mark", str(now_ms))],
        )

    def _recurring(self) -> Iterator[tuple[str, StoredEntry]]:
        cursor = 0
        while True:
            cursor, named = self.timetable.names(prefix="", limit=CHUNK, cursor=cursor)
            ids = {entry_id: name for name, entry_id in named if not is_one_time(entry_id)}
            for stored in self.timetable.read(list(ids)) if ids else []:
                if stored is not None:
                    yield ids[stored.entry_id], stored
            if cursor == 0:
                return


def _chunks(specs: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], ...]]:
    left = iter(specs)
    while chunk := tuple(islice(left, CHUNK)):
        yield chunk


def _statuses(begun: Begun | None) -> list[str]:
    """Wait until a chunk is stored, if there is one, and return what each of its drafts did."""
    return [] if begun is None else [outcome.status for outcome in begun.outcomes()]


def _spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    missing = [word for word in ("name", "signature", "schedule") if word not in spec]
    if missing:
        raise InvalidEntry(f"each entry needs name, signature and schedule; {missing[0]} is missing in {dict(spec)!r:.100}")
    return dict(spec)


def _moment(slot_ms: int | None) -> datetime | None:
    return None if slot_ms is None else from_ms(slot_ms)
