"""The scripts of the timetable through any sequence of verbs, beside a model that is a dictionary. Each call may be sent twice."""

from dataclasses import dataclass, replace

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from celery_tw.core.command import Command
from celery_tw.core.definition import Definition
from celery_tw.core.misfire import SkippedRange
from celery_tw.errors import StaleEpoch
from celery_tw.stores.redis.codec import OneTime, encode_definition
from celery_tw.stores.redis.dispatching import Dispatching, SlotWrite
from celery_tw.stores.redis.election import Election, Led
from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.redis.news import NewsReader
from celery_tw.stores.redis.timetable import Timetable
from celery_tw.stores.redis.writing import OneTimeWrite, RecurringWrite

KEYS = Keys("shop")
NAMES = st.sampled_from(["tick", "tock", "report"])
PAST_MS = st.integers(1, 50).map(lambda n: n * 1000)
TWICE = st.booleans()


@dataclass(frozen=True)
class Entry:
    """What the model knows of a recurring entry; a removed one keeps its version and mark."""

    entry_id: int
    version: int
    mark_ms: int
    due_ms: int | None
    count: int = 0
    paused: bool = False
    removed: bool = False


@dataclass(frozen=True)
class Task:
    """What the model knows of a one-time task."""

    entry_id: int
    mid: str
    due_ms: int
    held: bool = False


class Scripts(RuleBasedStateMachine):
    """The real scripts on a real server, and the model."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__()
        client.flushall()
        self.client = client
        self.timetable = Timetable(client, KEYS)
        self.dispatching = Dispatching(client, KEYS, lease_ms=60_000, history_size=3)
        self.news = NewsReader(client, KEYS)
        self.news.catch_up()
        led = Election(client, KEYS).acquire("me", lease_ms=60_000)
        assert isinstance(led, Led)
        self.epoch = led.epoch
        self.entries: dict[str, Entry] = {}
        self.tasks: dict[int, Task] = {}
        self.gone: list[Task] = []
        self.heard: dict[int, int | None] = {}
        self.told = 0
        self.sent: list[bytes] = []

    def teardown(self) -> None:
        self.dispatching.line.close()

    # Recurring entries

    @rule(name=NAMES, mark_ms=PAST_MS, twice=TWICE)
    def put(self, name: str, mark_ms: int, twice: bool) -> None:
        known = self.entries.get(name)
        entry_id = known.entry_id if known else self.timetable.reserve(1, one_time=False)[0]
        write = self.write(name, entry_id, known, mark_ms)
        assert self.timetable.writing.put([write])[1] == ["put"]
        if twice:
            assert self.timetable.writing.put([write])[1] == ["raced"]
        kept = known if known and not known.removed else Entry(entry_id, 0, 0, None)
        version = 1 + (known.version if known else 0)
        self.entries[name] = replace(kept, version=version, mark_ms=mark_ms, due_ms=mark_ms + 1000, removed=False)
        self.heard[entry_id] = mark_ms + 1000

    def write(self, name: str, entry_id: int, known: Entry | None, mark_ms: int) -> RecurringWrite:
        definition = Definition(name=name, signature={"task": "t"}, schedule={"kind": "interval", "period_ms": 1000, "anchor_ms": 0})
        return RecurringWrite(
            name=name,
            entry_id=entry_id,
            version=known.version if known else None,
            definition=encode_definition(definition),
            mark_ms=mark_ms,
            due_ms=mark_ms + 1000,
            mark_expected_ms=known.mark_ms if known else None,
        )

    @precondition(lambda self: self.entries)
    @rule(data=st.data(), behind=st.integers(1, 3))
    def put_on_an_old_version(self, data: st.DataObject, behind: int) -> None:
        name, entry = self.any_entry(data)
        stale = replace(entry, version=entry.version - behind)
        assert self.timetable.writing.put([self.write(name, entry.entry_id, stale, 99_000)])[1] == ["raced"]

    @precondition(lambda self: self.entries)
    @rule(data=st.data(), pause=st.booleans(), twice=TWICE)
    def pause_or_resume(self, data: st.DataObject, pause: bool, twice: bool) -> None:
        name, entry = self.any_entry(data)
        due_ms = None if pause else entry.mark_ms + 1000
        skipped = SkippedRange(from_ms=1, to_ms=2, count=1, reason="paused")
        changes = {"version": entry.version, "mark_ms": entry.mark_ms, "due_ms": due_ms, "fields": [("paused", str(int(pause)))]}
        done = self.timetable.writing.change(entry.entry_id, skipped=skipped, **changes)  # type: ignore[arg-type]
        assert done is not entry.removed
        if twice:
            assert not self.timetable.writing.change(entry.entry_id, skipped=skipped, **changes)  # type: ignore[arg-type]
        if done:
            self.entries[name] = replace(entry, version=entry.version + 1, due_ms=due_ms, paused=pause)
            self.heard[entry.entry_id] = due_ms

    @precondition(lambda self: self.entries)
    @rule(data=st.data(), twice=TWICE)
    def remove(self, data: st.DataObject, twice: bool) -> None:
        name, entry = self.any_entry(data)
        assert self.timetable.writing.remove(name, entry.entry_id) == ("gone" if entry.removed else "removed")
        if twice:
            assert self.timetable.writing.remove(name, entry.entry_id) == "gone"
        if not entry.removed:
            self.entries[name] = replace(entry, version=entry.version + 1, due_ms=None, removed=True)
            self.heard[entry.entry_id] = None

    @precondition(lambda self: self.entries)
    @rule(data=st.data(), slot_shift=st.integers(-2, 2), version_shift=st.integers(-1, 1), stale_epoch=st.booleans(), twice=TWICE)
    def fire(self, data: st.DataObject, slot_shift: int, version_shift: int, stale_epoch: bool, twice: bool) -> None:
        """Fire with any slot and version; only the right ones may be taken, and never a slot at or before the mark."""
        name, entry = self.any_entry(data)
        slot_ms = entry.mark_ms + 1000 * slot_shift
        write = self.slot_write(entry, slot_ms, entry.version + version_shift)
        if stale_epoch:
            self.refuse_the_old_epoch(write)
            return
        right = entry.due_ms is not None and not version_shift and slot_ms > entry.mark_ms
        assert self.dispatching.fire(self.epoch, [write]).statuses()[1] == ["fired" if right else "moved"]
        if twice:
            assert self.dispatching.fire(self.epoch, [write]).statuses()[1] == ["moved"]
        if right:
            self.sent.append(write.commands[0].payload)
            self.entries[name] = replace(entry, mark_ms=slot_ms, due_ms=slot_ms + 1000, count=entry.count + 1)

    def slot_write(self, entry: Entry, slot_ms: int, version: int) -> SlotWrite:
        return SlotWrite(
            entry_id=entry.entry_id,
            due_ms=entry.due_ms or 1,
            version=version,
            slot_ms=slot_ms,
            next_due_ms=slot_ms + 1000,
            commands=[Command("lpush", b"queue", f"{entry.entry_id} {slot_ms}".encode())],
        )

    def refuse_the_old_epoch(self, write: SlotWrite) -> None:
        with pytest.raises(StaleEpoch):
            self.dispatching.fire(self.epoch - 1, [write]).statuses()

    def any_entry(self, data: st.DataObject) -> tuple[str, Entry]:
        name = data.draw(st.sampled_from(sorted(self.entries)))
        return name, self.entries[name]

    # One-time tasks

    @rule(due_ms=PAST_MS, twice=TWICE)
    def put_once(self, due_ms: int, twice: bool) -> None:
        (entry_id,) = self.timetable.reserve(1, one_time=True)
        task = Task(entry_id, f"mid-{entry_id}", due_ms)
        for _ in range(1 + twice):
            assert self.timetable.writing.put_one_time([self.task_write(task)])[1] == ["put"]
        self.tasks[entry_id] = task
        self.heard[entry_id] = due_ms

    def task_write(self, task: Task) -> OneTimeWrite:
        record = OneTime(
            mid=task.mid,
            name="",
            stored_ms=self.timetable.now_ms(),
            last_ms=None,
            fingerprint="f",
            queue_key="queue",
            extra={},
            message=task.mid.encode(),
        )
        return OneTimeWrite(name="", entry_id=task.entry_id, mid=task.mid, due_ms=task.due_ms, record=record.pack())

    @precondition(lambda self: self.gone)
    @rule(data=st.data())
    def put_a_fired_task_again(self, data: st.DataObject) -> None:
        assert self.timetable.writing.put_one_time([self.task_write(data.draw(st.sampled_from(self.gone)))])[1] == ["fired"]

    @precondition(lambda self: self.tasks)
    @rule(data=st.data(), pause=st.booleans(), twice=TWICE)
    def hold_or_free(self, data: st.DataObject, pause: bool, twice: bool) -> None:
        task = self.any_task(data)
        assert self.timetable.writing.hold(task.entry_id, pause=pause) == ("same" if pause == task.held else "changed")
        if twice:
            assert self.timetable.writing.hold(task.entry_id, pause=pause) == "same"
        if pause != task.held:
            self.tasks[task.entry_id] = replace(task, held=pause)
            self.heard[task.entry_id] = None if pause else task.due_ms

    @precondition(lambda self: self.tasks)
    @rule(data=st.data(), due_shift=st.integers(0, 1), twice=TWICE)
    def fire_once(self, data: st.DataObject, due_shift: int, twice: bool) -> None:
        task = self.any_task(data)
        pair = (task.due_ms + due_shift, task.entry_id)
        expected = "gone" if task.held else "moved" if due_shift else "fired"
        assert self.fire_pair(pair) == expected
        if twice and expected == "fired":
            assert self.fire_pair(pair) == "gone"
        if expected == "fired":
            self.sent.append(task.mid.encode())
            self.gone.append(self.tasks.pop(task.entry_id))

    def fire_pair(self, pair: tuple[int, int]) -> str:
        return self.dispatching.fire_once(self.epoch, [pair], fingerprint="f", queue_keys=[b"queue"]).statuses()[1][0]

    def any_task(self, data: st.DataObject) -> Task:
        return self.tasks[data.draw(st.sampled_from(sorted(self.tasks)))]

    # What always holds

    @invariant()
    def due_is_what_the_model_says(self) -> None:
        waiting = {entry.entry_id: entry.due_ms for entry in self.entries.values() if entry.due_ms is not None}
        waiting |= {task.entry_id: task.due_ms for task in self.tasks.values() if not task.held}
        assert {int(member): int(score) for member, score in self.client.zrange(KEYS.due, 0, -1, withscores=True)} == waiting

    @invariant()
    def entries_are_what_the_model_says(self) -> None:
        stored = self.timetable.read([entry.entry_id for entry in self.entries.values()])
        for (name, entry), found in zip(self.entries.items(), stored, strict=True):
            assert found is not None
            facts = (found.version, found.mark_ms, found.due_ms, found.removed, found.paused, found.count)
            assert facts == (entry.version, entry.mark_ms, entry.due_ms, entry.removed, entry.paused, entry.count), name
        living = {name.encode(): str(entry.entry_id).encode() for name, entry in self.entries.items() if not entry.removed}
        assert self.client.hgetall(KEYS.names) == living

    @invariant()
    def each_message_was_sent_once_and_in_order(self) -> None:
        assert self.client.lrange("queue", 0, -1) == self.sent[::-1]

    @invariant()
    def the_news_tell_all_that_clients_changed(self) -> None:
        if not self.heard:
            assert int(self.client.get(KEYS.news_seq) or 0) == self.told
            return
        heard, missed = self.news.read(block_ms=1000)
        assert not missed
        self.told = heard[-1].number
        assert dict(pair for news in heard for pair in news.entries()) == self.heard
        self.heard = {}


def test_any_sequence_of_verbs_leaves_what_the_model_says(redis_client: redis.Redis) -> None:
    run_state_machine_as_test(
        lambda: Scripts(redis_client),
        settings=settings(max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)),
    )
