"""Dispatching: the leader's verbs on the timetable. Each carries its epoch and is refused when another term leads."""

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from math import isfinite

from celery_tw.core.allowed import AllowedTasks
from celery_tw.core.command import Command
from celery_tw.core.definition import Delivery
from celery_tw.core.lane import LANES
from celery_tw.core.misfire import MissedRange, SkippedRange
from celery_tw.core.sequence import Numbers, numbered
from celery_tw.core.shares import Choice
from celery_tw.errors import MalformedRecord
from celery_tw.stores.redis.codec import encode_skip
from celery_tw.stores.redis.entering_fires import EnteringFires, Step
from celery_tw.stores.redis.envelope import NEUTRAL
from celery_tw.stores.redis.keys import ADMITTED_KEPT_MS, FIRED_KEPT_MS, ONE_TIME_SKIPS, SKIPS_KEPT_MS, TEMPLATES_KEPT_MS, Keys
from celery_tw.stores.redis.line import Call, Line, statuses
from celery_tw.stores.redis.open_fires import waiting_member
from celery_tw.stores.redis.scripts import Argument, RedisClient, script, translated_errors
from celery_tw.stores.redis.templates import cut_record
from celery_tw.stores.redis.timetable import Timetable

ALL = AllowedTasks()

SWEPT_AT_ONCE = 100
HELD_LOOKED_AT = 10_000
"""With more tasks paused than this, no template is swept: to look at them all would hold up everybody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotWrite:
    """One entry's decided slot: compared by *due_ms* and *version*, fired by *commands* (none: decided without a fire).

    *drop_name* takes the entry off the timetable altogether. *backlog* is a range to be drained later; it is named after the slot, or when
    the entry *waits* for its earlier fires to end, so that it can have one such range only.
    """

    entry_id: int
    due_ms: int
    version: int
    slot_ms: int
    next_due_ms: int | None
    commands: Sequence[Command] = ()
    skipped: SkippedRange | None = None
    backlog: MissedRange | None = None
    drop_name: str = ""
    delivery: Delivery = "at_least_once"
    waits: bool = False


@dataclass(frozen=True, slots=True)
class Backlog:
    """An open backlog of one entry: slots up to *to_ms*, the next of which is *next_ms*."""

    member: str
    entry_id: int
    to_ms: int
    next_ms: int
    left: int
    rate: float | None
    generation: int


@dataclass(slots=True)
class _Arguments:
    """Keys and arguments of one script call; queue keys come last and are counted from *first_queue*. Claims go to *outbox*.

    *open_ms* is for how long a task counts as open that nobody takes up. *enter* tells what lets a message wait in its lane.
    """

    outbox: str
    keys: list[str | bytes]
    args: list[Argument]
    open_ms: int
    enter: Callable[[Command, Delivery], Sequence[Step]]
    queues: dict[str | bytes, int] = field(default_factory=dict)

    def add_commands(self, commands: Sequence[Command], payloads: Sequence[bytes], delivery: Delivery) -> None:
        steps = [
            step
            for command, payload in zip(commands, payloads, strict=True)
            for step in (self.enter(command, delivery) if command.lane else (self._step(command, payload, delivery),))
        ]
        self.args.append(len(steps))
        for step in steps:
            self.args += (step.word, self.queues.setdefault(step.key, len(self.queues)), step.payload)

    def _step(self, command: Command, payload: bytes, delivery: Delivery) -> Step:
        if command.operation == "claim":
            return Step(f"claim {delivery}", self.outbox, payload)
        return Step(f"count {self.open_ms}" if command.operation == "count" else command.operation, command.key, payload)


class Dispatching:
    """The leader's hands on one shard; of one-time tasks only *allowed* ones are fired.

    *open_ms* is for how long a fire counts as still there that nobody takes up. *fingerprint* tells for which broker messages are rendered.
    """

    def __init__(
        self,
        client: RedisClient,
        keys: Keys,
        *,
        lease_ms: int,
        history_size: int,
        allowed: AllowedTasks = ALL,
        open_ms: int = 3_600_000,
        fingerprint: Callable[[], str] = lambda: NEUTRAL,
    ) -> None:
        self.client = client
        self.keys = keys
        self.lease_ms = lease_ms
        self.history_size = history_size
        self.allowed = allowed
        self.open_ms = open_ms
        self.line = Line(client)
        self.numbers = Numbers()
        self.entering = EnteringFires(Timetable(client, keys), fingerprint=fingerprint)

    def page(self, *, cursor_ms: int, cursor_member: str, until_ms: int, limit: int) -> list[tuple[int, bytes]]:
        """Return up to *limit* pairs of due ms and member after the cursor and not after *until_ms*."""
        flat = script("page").run(self.client, [self.keys.due], [cursor_ms, cursor_member, until_ms, limit])
        return _pairs(flat)

    def poll(self, *, now_ms: int, limit: int, backlogs: int) -> tuple[list[tuple[int, bytes]], list[bytes]]:
        """Return the oldest pairs of due ms and member at or before *now_ms*, and the backlogs whose turn it is."""
        due, open_backlogs = script("poll").run(self.client, [self.keys.due, self.keys.backlogs], [now_ms, limit, backlogs])
        return _pairs(due), open_backlogs

    def fire(self, epoch: int, writes: Sequence[SlotWrite]) -> Call:
        """Carry out decided slots; the status of each will be fired, moved, early or refused with the reason."""
        shard = self.keys
        call = _Arguments(shard.outbox, [shard.leader, shard.due, shard.backlogs, shard.names], [], self.open_ms, self._enter)
        first, payloads = self._numbered(epoch, [write.commands for write in writes])
        for write, messages in zip(writes, payloads, strict=True):
            self._add_write(call, write, messages)
        head: list[Argument] = [epoch, self.lease_ms, self.history_size, len(writes), len(call.keys) + 1, SKIPS_KEPT_MS, first]
        return self.line.send("fire", [*call.keys, *call.queues], head + call.args)

    def _numbered(self, epoch: int, entries: Sequence[Sequence[Command]]) -> tuple[int, list[list[bytes]]]:
        """Return the first number, and the payloads of *entries* with their numbers, in the order in which the script sends them."""
        first = number = self.numbers.take(epoch, sum(map(len, entries)))
        payloads = [[command.payload for command in commands] for commands in entries]
        for entry in sorted(range(len(entries)), key=lambda entry: _goes_last(entries[entry])):
            for place in sorted(range(len(entries[entry])), key=lambda place: entries[entry][place].operation != "publish"):
                if not entries[entry][place].lane:  # what waits in a lane is numbered when it goes on
                    payloads[entry][place] = numbered(payloads[entry][place], number)
                number += 1
        return first, payloads

    def _enter(self, command: Command, delivery: Delivery) -> list[Step]:
        return self.entering.steps(command, delivery)

    def _add_write(self, call: _Arguments, write: SlotWrite, payloads: Sequence[bytes]) -> None:
        shard, entry_id = self.keys, write.entry_id
        call.keys += (shard.entry(entry_id), shard.history(entry_id))
        next_due: Argument = "" if write.next_due_ms is None else write.next_due_ms
        call.args += (entry_id, write.due_ms, write.version, write.slot_ms, next_due, write.drop_name)
        if write.skipped is None:
            call.args.append("")
        else:
            call.keys.append(shard.skips(entry_id))
            call.args += (encode_skip(write.skipped), write.skipped.to_ms)
        if write.backlog is None:
            call.args.append("")
        else:
            missed, member = write.backlog, waiting_member(entry_id) if write.waits else f"{entry_id}:{write.slot_ms}"
            call.keys.append(shard.backlog(member))
            call.args += (member, missed.from_ms, missed.to_ms, missed.next_ms, missed.left, repr(missed.rate))
        call.add_commands(write.commands, payloads, write.delivery)

    def fire_once(
        self,
        epoch: int,
        pairs: Sequence[tuple[int, int]],
        *,
        fingerprint: str,
        queue_keys: Collection[bytes],
        fair_queues: Collection[str] = (),
    ) -> Call:
        """Fire one-time tasks, given as due ms and id; the status of each will be as ``fire_once.lua`` names them.

        Messages in neutral form go to the outbox, whatever their queues. Those for one of *fair_queues* go to their lanes.
        """
        keys, args = self._batch(epoch, pairs, fingerprint=fingerprint, queue_keys=queue_keys)
        keys += (key for queue in fair_queues for key in self.keys.lanes_of(queue))
        return self.line.send("fire_once", keys, [*args, *fair_queues])

    def admit(self, epoch: int, choices: Sequence[Choice], *, queue: str, fingerprint: str, queue_keys: Collection[bytes]) -> Call:
        """Let waiting messages go on to *queue*; the status of each will be as ``admit.lua`` names them."""
        pairs = [(choice.since_ms, choice.entry_id) for choice in choices]
        keys, args = self._batch(epoch, pairs, fingerprint=fingerprint, queue_keys=queue_keys)
        args.append(ADMITTED_KEPT_MS)
        for choice in choices:
            args += (LANES.index(choice.segment.own) + 1, choice.turn)
        return self.line.send("admit", [*keys, *self.keys.lanes_of(queue), self.keys.admitted(queue)], args)

    def _batch(
        self, epoch: int, pairs: Sequence[tuple[int, int]], *, fingerprint: str, queue_keys: Collection[bytes]
    ) -> tuple[list[str | bytes], list[Argument]]:
        """Return the keys and the arguments that ``parts/batch.lua`` names."""
        claims = fingerprint == NEUTRAL
        shard = self.keys
        keys: list[str | bytes] = [
            shard.leader,
            shard.due,
            shard.names,
            shard.fired,
            shard.skips(ONE_TIME_SKIPS),
            shard.held,
            shard.by_task,
            shard.templates,
            shard.template_dues,
            shard.lanes,
        ]
        targets: Collection[str | bytes] = [shard.outbox] if claims else queue_keys
        args: list[Argument] = [
            epoch,
            self.lease_ms,
            len(pairs),
            fingerprint,
            FIRED_KEPT_MS,
            SKIPS_KEPT_MS,
            "outbox" if claims else "queue",
            self.allowed.in_lua(),
            self.numbers.take(epoch, len(pairs)),
            len(targets),
        ]
        for since_or_due_ms, entry_id in pairs:
            keys.append(shard.entry(entry_id))
            args += (entry_id, since_or_due_ms)
        return [*keys, *targets], args

    def read_backlog(self, member: str) -> Backlog | None:
        """Return an open backlog, or None when it is gone; raises `MalformedRecord`."""
        with translated_errors("HGETALL"):
            stored = self.client.hgetall(self.keys.backlog(member))
        if not stored:
            return None
        try:
            rate = stored.get(b"rate")
            return Backlog(
                member=member,
                entry_id=int(member.partition(":")[0]),
                to_ms=int(stored[b"to"]),
                next_ms=int(stored[b"next"]),
                left=int(stored[b"left"]),
                rate=float(rate) if rate else None,
                generation=int(stored.get(b"generation", 0)),
            )
        except (KeyError, ValueError) as error:
            raise MalformedRecord(f"the backlog {member} lacks or misstates a field: {error!r}") from error

    def drain(
        self,
        epoch: int,
        backlog: Backlog,
        *,
        slots_ms: Sequence[int],
        commands: Sequence[Command],
        next_ms: int | None,
        left: int,
        again_ms: int,
        version: int | None = None,
        delivery: Delivery = "at_least_once",
        skipped: SkippedRange | None = None,
    ) -> str:
        """Fire the next slots of a backlog, or close it with *skipped*; return fired, moved, removed, early or refused and why.

        Nothing is done when the entry has another version than *version*, which it was decided on; None stands for any.
        """
        shard, member = self.keys, backlog.member
        call = _Arguments(
            shard.outbox,
            [
                shard.leader,
                shard.backlogs,
                shard.backlog(member),
                shard.entry(backlog.entry_id),
                shard.history(backlog.entry_id),
                shard.skips(backlog.entry_id),
            ],
            [epoch, self.lease_ms, self.history_size, member, backlog.next_ms],
            self.open_ms,
            self._enter,
        )
        call.args += ("" if next_ms is None else next_ms, left, again_ms)
        call.args += ("", "") if skipped is None else (encode_skip(skipped), skipped.to_ms)
        call.args += (SKIPS_KEPT_MS, "" if version is None else version, len(slots_ms), *slots_ms)
        first, (payloads,) = self._numbered(epoch, [commands])
        call.add_commands(commands, payloads, delivery)
        call.args.append(first)
        _, (status,) = statuses(script("drain").run(self.client, [*call.keys, *call.queues], call.args))
        self.entering.discard_ids(status)
        return status

    def rerender(self, epoch: int, entry_id: int, *, old: bytes, new: bytes) -> bool:
        """Put *new*, a whole record, in the place of *old*, one as it is stored; return False when that has gone or changed."""
        shard, (begin, cut) = self.keys, cut_record(new)
        keys: list[str | bytes] = [shard.leader, shard.entry(entry_id), shard.due, shard.held, shard.templates, shard.template_dues]
        args: list[Argument] = [epoch, old, begin + cut.rest, entry_id, cut.template.template_id, cut.template.text]
        return bool(script("rerender").run(self.client, keys, args))

    def sweep_templates(self, epoch: int, *, fair_queues: Collection[str] = ()) -> int:
        """Remove some templates that no task needs any more, in the lanes of *fair_queues* either; return how many."""
        shard = self.keys
        keys: list[str | bytes] = [shard.leader, shard.due, shard.held, shard.templates, shard.template_dues]
        keys += (lane for queue in fair_queues for lane in shard.lanes_of(queue))
        return int(script("sweep_templates").run(self.client, keys, [epoch, TEMPLATES_KEPT_MS, SWEPT_AT_ONCE, HELD_LOOKED_AT]))

    def quarantine(self, epoch: int, member: str | bytes, reason: str, *, backlog: bool = False) -> None:
        """Set an unreadable entry or backlog aside, with the reason."""
        shard = self.keys
        keys: list[str | bytes] = [shard.leader, shard.due, shard.bad, shard.backlogs]
        script("quarantine").run(self.client, keys, [epoch, "backlog" if backlog else "entry", member, json.dumps({"reason": reason})])


def _goes_last(commands: Sequence[Command]) -> bool:
    """Return whether FIRE sends *commands* with other plain messages of their queue, after what takes more than that."""
    return len(commands) == 1 and commands[0].operation == "lpush" and not commands[0].lane


def _pairs(flat: list[bytes]) -> list[tuple[int, bytes]]:
    """Return pairs of due ms and member; a due time that is none (``-inf``) as one before all times."""
    return [(int(score) if isfinite(score) else -1, member) for member, score in zip(flat[::2], map(float, flat[1::2]), strict=True)]
