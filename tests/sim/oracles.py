"""Oracles: what must hold of every history, whatever went wrong in it.

========== ==========================================================================================================
running    no thread of a scheduler or client ends by an error
epochs     grow with each term
fenced     what reaches the queue was brought by the leader of that moment
once       no fire id reaches a queue twice
numbers    grow from message to message
early      nothing fires, or comes to a lane, before its time by the server's clock
phantom    what fires is an entry that stands, neither paused nor removed nor held, as it is defined then, and a slot of it after its mark
mark       never moves back
hole       each slot up to the mark was fired, is recorded as skipped, or waits in a backlog
stored     what a client was told is so
left over  when all is healed, one leads, nothing is overdue, no backlog or quarantine is left, and each due time is the next slot's
late       undisturbed, an entry fires within `PROMPT_MS` of its due time
place      a one-time task is due, held, in one lane or set aside; it is gone only when it was fired, skipped, cancelled or removed
idle       undisturbed, a fair queue is not empty for longer than `PROMPT_MS` while something waits in its lanes
========== ==========================================================================================================
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from celery_tw.core.bounds import Bounded
from celery_tw.core.definition import Definition
from celery_tw.core.identity import FireIds
from celery_tw.core.recurrence import Recurrence, slots_between
from celery_tw.core.spec import recurrence_from_spec
from celery_tw.scheduler.decision import first_due_ms
from celery_tw.stores.redis.codec import decode_definition, decode_skip
from celery_tw.stores.redis.keys import is_one_time
from tests.sim import workload as w
from tests.sim.disturbance import disturbed
from tests.sim.faults import ServerClock
from tests.sim.ledger import Event, OneTimeTask, Recurring
from tests.sim.messages import is_enveloped, number_of, text_of
from tests.sim.simulation import Outcome

PROMPT_MS = 250
SETTLED_MS = 2000
COUNTED = 20_000
CLIENTS_SCRIPTS = frozenset({"put", "change", "put_once", "defer", "hold", "hurry"})
FIRE_IDS = FireIds("sim")
TAKE_OFF = frozenset({"fire_once", "admit", "cancel", "remove"})
"""The scripts that may take a one-time task off the timetable; of the first two it is judged what became of it."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that must not be; *at_ms* is virtual time since the beginning."""

    rule: str
    at_ms: int
    what: str

    def __str__(self) -> str:
        return f"{self.rule:9} at {self.at_ms:6} ms: {self.what}"


@dataclass(frozen=True, slots=True)
class Fired:
    """A message as it reached the queue."""

    event: Event
    name: str
    slot_ms: int
    fire_id: str
    revision: int
    number: int | None
    raw: bytes

    @property
    def at_ms(self) -> int:
        return self.event.call.at_us // 1000


def judge(outcome: Outcome) -> list[Violation]:
    """Return everything that is wrong with a history, in the order of the table above."""
    fired = [_parse(event, raw) for event in outcome.events for raw in event.pushed]
    laned = [_parse(event, raw) for event in outcome.events for raw in _fired_into_lanes(event)]
    checks = (
        _running(outcome),
        _epochs(outcome),
        _fenced(outcome),
        _once(fired),
        _numbers(fired),
        _recurring_fires([*fired, *laned]),
        _one_time_fires(outcome),
        _marks(outcome),
        _holes(outcome, {message.fire_id for message in (*fired, *laned)}),
        _stored(outcome, fired),
        _left_over(outcome),
        _late(outcome, fired),
        _places(outcome),
        _idle(outcome),
    )
    return [violation for check in checks for violation in check]


def _parse(event: Event, raw: bytes) -> Fired:
    name, slot, fire_id, revision = text_of(raw).split()
    return Fired(event, name, int(slot), fire_id, int(revision), number_of(raw), raw)


def _fired_into_lanes(event: Event) -> Iterator[bytes]:
    """Yield the messages of recurring entries that a fire brought to a lane."""
    if event.call.label in ("fire", "drain"):
        for entry_id, after in event.after.items():
            if event.before.get(entry_id) is None and isinstance(after, OneTimeTask):
                yield _message(after)


def _message(task: OneTimeTask) -> bytes:
    return task.record.split(b"\n", 9)[9]


@lru_cache(maxsize=1000)
def _definition(raw: bytes) -> tuple[Definition, Recurrence]:
    definition = decode_definition(raw)
    return definition, Bounded(recurrence_from_spec(definition.schedule), start_ms=definition.start_ms, end_ms=definition.end_ms)


def _revision(definition: Definition) -> int:
    return int(definition.signature["kwargs"]["revision"])


def _running(outcome: Outcome) -> Iterator[Violation]:
    for name, error in outcome.failures:
        yield Violation("running", 0, f"{name} ended: {type(error).__name__}: {error}")


def _epochs(outcome: Outcome) -> Iterator[Violation]:
    for before, after in zip(outcome.epochs, outcome.epochs[1:], strict=False):
        if after <= before:
            yield Violation("epochs", 0, f"epoch {after} was given after {before}")


def _fenced(outcome: Outcome) -> Iterator[Violation]:
    for event in outcome.events:
        if not event.call.fenced:
            yield Violation("fenced", event.call.at_us // 1000, f"{event.call.host} did {event.call.label} without leading")


def _once(fired: list[Fired]) -> Iterator[Violation]:
    counts = Counter(message.fire_id for message in fired)
    for message in fired:
        if counts[message.fire_id] > 1:
            what = f"{message.name} slot {message.slot_ms} reached the queue {counts[message.fire_id]} times"
            yield Violation("once", message.at_ms, what)
            counts[message.fire_id] = 1


def _numbers(fired: list[Fired]) -> Iterator[Violation]:
    for queue in (False, True):
        numbered = [message for message in fired if message.number is not None and is_enveloped(message.raw) is queue]
        yield from _falling(numbered)


def _falling(fired: list[Fired]) -> Iterator[Violation]:
    for before, after in pairwise(fired):
        if after.number <= before.number:  # type: ignore[operator]
            yield Violation("numbers", after.at_ms, f"{after.name} slot {after.slot_ms} has {after.number}, and came after {before.number}")


def _recurring_fires(fired: list[Fired]) -> Iterator[Violation]:
    for message in fired:
        if message.event.call.label not in ("fire", "drain"):
            continue
        if message.slot_ms > message.event.call.server_ms:
            yield Violation("early", message.at_ms, f"{message.name} slot {message.slot_ms} at {message.event.call.server_ms}")
        why = _phantom(message)
        if why:
            yield Violation("phantom", message.at_ms, f"{message.name} slot {message.slot_ms} by {message.event.call.label}: {why}")


def _phantom(message: Fired) -> str:
    """Return why a recurring entry may not have fired, or ''."""
    state = _standing(message)
    if state is None:
        return "there is no such entry"
    definition, recurrence = _definition(state.definition)
    if state.removed or state.paused:
        return "it was removed" if state.removed else "it was paused"
    if _revision(definition) != message.revision:
        return f"revision {message.revision} in place of {_revision(definition)}"
    if recurrence.next_after(message.slot_ms - 1) != message.slot_ms:
        return "it has no such slot"
    if message.event.call.label == "fire" and message.slot_ms <= state.mark_ms:
        return f"its mark was {state.mark_ms}"
    return ""


def _standing(message: Fired) -> Recurring | None:
    named = [
        state
        for state in message.event.before.values()
        if isinstance(state, Recurring) and _definition(state.definition)[0].name == message.name
    ]
    return min(named, key=lambda state: state.removed, default=None)


def _one_time_fires(outcome: Outcome) -> Iterator[Violation]:
    for event in outcome.events:
        at_ms, left = event.call.at_us // 1000, [text_of(raw) for raw in event.pushed]
        if event.call.label not in ("fire_once", "admit"):
            continue
        for entry_id, after in event.after.items():
            before = event.before[entry_id]
            if not isinstance(before, OneTimeTask) or (isinstance(after, OneTimeTask) and not _comes_to_its_lane(before, after)):
                continue
            if event.call.label == "admit":
                if not before.waits:
                    yield Violation("phantom", at_ms, f"task {entry_id} was admitted, and did not wait in a lane")
            elif before.held_ms is not None:
                yield Violation("phantom", at_ms, f"task {entry_id} was held")
            elif before.due_ms is None or before.due_ms > event.call.server_ms:
                yield Violation("early", at_ms, f"task {entry_id} due {before.due_ms} at {event.call.server_ms}")
            if after is not None:
                continue
            message = text_of(_message(before))
            if message in left:
                left.remove(message)
            elif not _skipped(outcome, 0, _since_ms(before)):
                yield Violation("hole", at_ms, f"task {entry_id} left the timetable, but neither message nor skip is left of it")
        for text in left:
            yield Violation("phantom", at_ms, f"a message of no waiting task: {text!r}")


def _comes_to_its_lane(before: OneTimeTask, after: OneTimeTask) -> bool:
    return after.waits and not before.waits


def _since_ms(task: OneTimeTask) -> int:
    """Return since when a task was due, or in its lane."""
    return task.due_ms or next((since_ms for _, since_ms in task.since_ms), 0)


def _skipped(outcome: Outcome, entry_id: int, slot_ms: int) -> bool:
    ranges = (decode_skip(raw) for raw in outcome.skips.get(entry_id, ()))
    return any(skipped.from_ms <= slot_ms <= skipped.to_ms for skipped in ranges)


def _moves(outcome: Outcome) -> Iterator[tuple[Event, int, Recurring, Recurring]]:
    """Yield each change of a recurring entry that stays one."""
    for event in outcome.events:
        for entry_id, after in event.after.items():
            before = event.before.get(entry_id)
            if isinstance(before, Recurring) and isinstance(after, Recurring):
                yield event, entry_id, before, after


def _marks(outcome: Outcome) -> Iterator[Violation]:
    for event, entry_id, before, after in _moves(outcome):
        if after.mark_ms < before.mark_ms:
            what = f"the mark of {entry_id} went from {before.mark_ms} back to {after.mark_ms} by {event.call.label} of {event.call.host}"
            yield Violation("mark", event.call.at_us // 1000, what)


def _holes(outcome: Outcome, fire_ids: set[str]) -> Iterator[Violation]:
    removed_later = {entry_id: event.call.number for event, entry_id, _, after in _moves(outcome) if after.removed}
    for event, entry_id, before, after in _moves(outcome):
        definition, recurrence = _definition(before.definition)
        done = definition.max_runs is not None and after.count >= definition.max_runs
        if after.mark_ms <= before.mark_ms or before.removed or done or removed_later.get(entry_id, 0) > event.call.number:
            continue
        waiting = any(member.startswith(f"{entry_id}:") for member in outcome.backlogs)
        for slot_ms in slots_between(recurrence, before.mark_ms, after.mark_ms, limit=COUNTED):
            gone = FIRE_IDS.fire_id(entry_id, slot_ms) not in fire_ids and not waiting and not _skipped(outcome, entry_id, slot_ms)
            if gone:
                what = f"{definition.name} slot {slot_ms} was passed over by {event.call.label} of {event.call.host}"
                yield Violation("hole", event.call.at_us // 1000, what)
                break


def _stored(outcome: Outcome, fired: list[Fired]) -> Iterator[Violation]:
    """Judge the operations whose name nobody else used meanwhile or later, by what their client was told."""
    names = Counter(operation.name for operation in outcome.trace.operations)
    sent = Counter(message.name for message in fired)
    for done in outcome.done:
        operation = done.operation
        if done.error or names[operation.name] > 1:
            continue
        if isinstance(operation, w.Put) and not _stands(outcome, operation):
            yield Violation("stored", done.ended_us // 1000, f"{operation.name} was stored, its client was told, and it is not there")
        one_time = isinstance(operation, w.PutOnce | w.Send) or (isinstance(operation, w.Defer) and done.answer == "put")
        known = sent[operation.name] or _told_skipped(outcome, operation.name) or _still_waits(outcome, operation.name)
        if one_time and not known:
            yield Violation("stored", done.ended_us // 1000, f"{operation.name} was stored, its client was told, and it never fired")


def _stands(outcome: Outcome, operation: w.Put) -> bool:
    for state in outcome.states.values():
        if isinstance(state, Recurring):
            definition, _ = _definition(state.definition)
            if definition.name == operation.name and _revision(definition) == operation.revision:
                return True
    return False


def _told_skipped(outcome: Outcome, name: str) -> bool:
    return any(f'"name":"{name}"'.encode() in raw for raw in outcome.skips.get(0, ()))


def _still_waits(outcome: Outcome, name: str) -> bool:
    waiting = (state for state in outcome.states.values() if isinstance(state, OneTimeTask))
    texts = f"\n{name} ".encode(), f'"body": "{name} '.encode()  # as the message itself, or in the envelope of one for a fair queue
    return any(any(text in state.record for text in texts) and (state.due_ms or 0) > outcome.end_ms - SETTLED_MS for state in waiting)


def _left_over(outcome: Outcome) -> Iterator[Violation]:
    end_ms = outcome.trace_end_ms
    if outcome.leaders != 1:
        yield Violation("left over", end_ms, f"{outcome.leaders} schedulers lead")
    for member, reason in outcome.quarantined.items():
        yield Violation("left over", end_ms, f"entry {member} is in quarantine: {reason!r}")
    set_back = any(isinstance(fault, ServerClock) and fault.step_ms < 0 for _, fault in outcome.strikes)
    for member, again_ms in outcome.backlogs.items():
        state = outcome.states.get(int(member.partition(":")[0]))
        waits = set_back and again_ms > outcome.end_ms  # until the clock is where it was
        if isinstance(state, Recurring) and not state.paused and not waits:
            yield Violation("left over", end_ms, f"backlog {member} is open")
    for entry_id, since_ms in outcome.laned.items():
        if since_ms < outcome.end_ms - SETTLED_MS:
            yield Violation("left over", end_ms, f"task {entry_id} has been in a lane for {outcome.end_ms - since_ms} ms")
    for entry_id, state in outcome.states.items():
        if state.due_ms is not None and state.due_ms < outcome.end_ms - SETTLED_MS:
            yield Violation("left over", end_ms, f"entry {entry_id} has been overdue for {outcome.end_ms - state.due_ms} ms")
        elif isinstance(state, Recurring) and state.due_ms != (expected := _next_due_ms(entry_id, state)):
            yield Violation("left over", end_ms, f"entry {entry_id} is due at {state.due_ms}, its next slot is at {expected}")


def _next_due_ms(entry_id: int, state: Recurring) -> int | None:
    definition, recurrence = _definition(state.definition)
    if state.removed or state.paused or (definition.max_runs is not None and state.count >= definition.max_runs):
        return None
    return first_due_ms(definition, recurrence, entry_id=entry_id, mark_ms=state.mark_ms)


def _late(outcome: Outcome, fired: list[Fired]) -> Iterator[Violation]:
    windows = disturbed(outcome)
    changed_ms: dict[int, int] = {}
    by_event: dict[int, list[Fired]] = {}
    for message in fired:
        by_event.setdefault(message.event.call.number, []).append(message)
    for event in outcome.events:
        if event.call.label in ("fire", "fire_once"):
            for entry_id in event.after:
                before = event.before.get(entry_id)
                if before is None or before.due_ms is None or event.call.number not in by_event:
                    continue
                late_ms = event.call.server_ms - before.due_ms
                began_ms = event.call.at_us // 1000 - late_ms
                settled = before.due_ms > changed_ms.get(entry_id, 0) + 100
                if late_ms > PROMPT_MS and settled and not any(first <= began_ms + late_ms and began_ms < last for first, last in windows):
                    what = f"{'task' if is_one_time(entry_id) else 'entry'} {entry_id} fired {late_ms} ms after it was due"
                    yield Violation("late", event.call.at_us // 1000, what)
        if event.call.label in CLIENTS_SCRIPTS:
            changed_ms |= dict.fromkeys(event.after, event.call.server_ms)


def _places(outcome: Outcome) -> Iterator[Violation]:
    for event in outcome.events:
        at_ms, label = event.call.at_us // 1000, event.call.label
        for entry_id, after in event.after.items():
            before = event.before.get(entry_id)
            if after is None and isinstance(before, OneTimeTask) and label not in TAKE_OFF:
                yield Violation("place", at_ms, f"task {entry_id} was lost by {label} of {event.call.host}")
            if not isinstance(after, OneTimeTask):
                continue
            lanes = [lane for lane, _ in after.since_ms]
            if len(lanes) > 1:
                yield Violation(
                    "place", at_ms, f"task {entry_id} was put into the lanes {' and '.join(lanes)} by {label} of {event.call.host}"
                )
            if after.due_ms is None and after.held_ms is None and not lanes and str(entry_id) not in outcome.quarantined:
                yield Violation("place", at_ms, f"task {entry_id} was left nowhere by {label} of {event.call.host}")


def _idle(outcome: Outcome) -> Iterator[Violation]:
    windows = disturbed(outcome)
    for from_us, to_us in outcome.idle_us:
        from_ms, to_ms = from_us // 1000, to_us // 1000
        if to_ms - from_ms > PROMPT_MS and not any(first < to_ms and from_ms < last for first, last in windows):
            yield Violation("idle", from_ms, f"the fair queue was empty for {to_ms - from_ms} ms with something in its lanes")
