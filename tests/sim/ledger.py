"""Ledger: what happened on the server, as an onlooker sees it.

Before and after each call that may write, the ledger reads the entries and the queue straight from the server's memory. It trusts no reply
and no argument: what reached the queue, and how each entry stood at that moment, is what the oracles judge.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from celery_tw.core.lane import LANES
from celery_tw.stores.redis.keys import Keys, is_one_time
from celery_tw.stores.redis.templates import join, template_id_of
from tests.sim.messages import FAIR, QUEUE

if TYPE_CHECKING:
    from tests.sim.server import Server

LEADERS_SCRIPTS = frozenset({"fire", "fire_once", "admit", "drain", "quarantine", "rerender", "sweep_templates", "make_room"})
CLIENTS_SCRIPTS = frozenset(
    {"put", "change", "remove", "put_once", "defer", "cancel", "hold", "hurry", "open_backlog", "enter", "boost", "lpush"}
)
WRITING_SCRIPTS = LEADERS_SCRIPTS | CLIENTS_SCRIPTS


@dataclass(frozen=True, slots=True)
class Recurring:
    """A recurring entry as it stood."""

    definition: bytes
    version: int
    mark_ms: int
    count: int
    paused: bool
    removed: bool
    due_ms: int | None


@dataclass(frozen=True, slots=True)
class OneTimeTask:
    """A one-time task as it stood, with its whole record, and since when it was in which lanes."""

    record: bytes
    due_ms: int | None
    held_ms: int | None
    since_ms: tuple[tuple[str, int], ...] = ()

    @property
    def waits(self) -> bool:
        """Return whether it was in a lane, and nothing had taken it out of its turn."""
        return bool(self.since_ms) and self.due_ms is None and self.held_ms is None


State = Recurring | OneTimeTask


@dataclass(slots=True)
class Call:
    """One call that the server ran.

    *fenced* tells that its epoch was the leader's, if it is a leader's. *expired* are the keys that ran out of time before it, when a tape
    is kept.
    """

    number: int
    at_us: int
    server_us: int
    label: str
    host: str
    fields: list[bytes]
    fenced: bool = True
    reply: Any = None
    expired: tuple[bytes, ...] = ()

    @property
    def server_ms(self) -> int:
        """The moment by the server's own clock, UTC."""
        return self.server_us // 1000


@dataclass(frozen=True, slots=True)
class Event:
    """A call that changed entries (None: not there), or put messages into the queue."""

    call: Call
    before: Mapping[int, State | None]
    after: Mapping[int, State | None]
    pushed: tuple[bytes, ...] = ()


@dataclass(slots=True)
class Ledger:
    """All that was seen. *tape* holds every call when it is wanted for a replay."""

    keys: Keys
    events: list[Event] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    tape: list[Call] | None = None
    calls: int = 0
    labels: dict[str, set[str]] = field(default_factory=dict)
    idle_us: list[tuple[int, int]] = field(default_factory=list)
    _states: dict[int, State] = field(default_factory=dict)
    _queued: dict[bytes, int] = field(default_factory=dict)
    _idle_since_us: int | None = None
    _lanes: dict[str, bytes] = field(init=False)

    def __post_init__(self) -> None:
        self._lanes = {lane: self.keys.lane(FAIR.decode(), lane).encode() for lane in LANES}

    def before(self, server: "Server", label: str, host: str, fields: list[bytes]) -> Call:
        """Note a call that the server is about to run."""
        self.calls += 1
        call = Call(self.calls, server.timeline.now_us, server.now_us(), label, host, fields)
        self.labels.setdefault(host.partition(".")[0], set()).add(label)
        call.fenced = label not in LEADERS_SCRIPTS or self._leads(server, fields)
        if self.tape is not None:
            call.expired = tuple(server.expired_keys())
        return call

    def after(self, server: "Server", call: Call) -> None:
        """Compare how things stand now, when *call* has been answered, with how they stood before."""
        if self.tape is not None:
            self.tape.append(call)
        if call.label == "acquire" and isinstance(call.reply, list) and call.reply[0] == b"led":
            self.epochs.append(int(call.reply[1]))
        if call.label == "rpop":
            self._queued[FAIR] = len(server.value(FAIR))
        if call.label in WRITING_SCRIPTS:
            self._compare(server, call)
        self._note_idleness(server, call.at_us)

    def state(self, entry_id: int) -> State | None:
        """Return how an entry stands now."""
        return self._states.get(entry_id)

    def states(self) -> Mapping[int, State]:
        return self._states

    def _leads(self, server: "Server", fields: list[bytes]) -> bool:
        """Return whether a leader's script comes from the present leader; its epoch is the first argument after the keys."""
        leader = server.data.get(self.keys.leader.encode())
        epoch = fields[3 + int(fields[2])]
        return leader is not None and leader.value.get(b"epoch") == epoch

    def _compare(self, server: "Server", call: Call) -> None:
        pushed = self._new_messages(server)
        was, states = self._states, dict(self._read(server))
        changed = [entry_id for entry_id in states.keys() | was.keys() if states.get(entry_id) != was.get(entry_id)]
        if changed or pushed:
            before = dict.fromkeys(states) | was
            after = {entry_id: states.get(entry_id) for entry_id in sorted(changed)}
            self.events.append(Event(call, before, after, pushed))
        self._states = states

    def _new_messages(self, server: "Server") -> tuple[bytes, ...]:
        return tuple(raw for queue in (QUEUE, FAIR) for raw in self._new_in(server, queue))

    def _new_in(self, server: "Server", queue: bytes) -> list[bytes]:
        waiting = server.value(queue)
        new = len(waiting) - self._queued.get(queue, 0)
        self._queued[queue] = len(waiting)
        return list(reversed(list(waiting[:new]))) if new else []

    def _note_idleness(self, server: "Server", at_us: int) -> None:
        """Note how long the fair queue is empty while something waits in its lanes."""
        idle = any(map(server.value, self._lanes.values())) and not server.value(FAIR)
        if idle and self._idle_since_us is None:
            self._idle_since_us = at_us
        elif not idle and self._idle_since_us is not None:
            self.idle_us.append((self._idle_since_us, at_us))
            self._idle_since_us = None

    def _read(self, server: "Server") -> Iterator[tuple[int, State]]:
        prefix = self.keys.entry(0)[:-1].encode()
        data, due, held = server.data, server.data.get(self.keys.due.encode()), server.data.get(self.keys.held.encode())
        templates, lanes = data.get(self.keys.templates.encode()), {lane: server.value(key) for lane, key in self._lanes.items()}
        for key in list(data):
            if not key.startswith(prefix):
                continue
            member = key[len(prefix) :]
            entry_id, value = int(member), data[key].value
            score = due.value.get(member) if due else None
            due_ms = None if score is None else int(score)
            if is_one_time(entry_id):
                held_ms = held.value.get(member) if held else None
                record = _whole(bytes(value), templates.value if templates else {})
                since_ms = tuple((lane, int(score)) for lane, members in lanes.items() if members and (score := members.get(member)))
                yield entry_id, OneTimeTask(record, due_ms, None if held_ms is None else int(held_ms), since_ms)
            elif value.get(b"def") is not None:
                yield entry_id, _recurring(value, due_ms)


def _whole(record: bytes, templates: Mapping[bytes, bytes]) -> bytes:
    """Return a stored record whole; as it is when it cannot be joined, which the scheduler then finds too."""
    return join(record, templates.get(template_id_of(record) or b"", b"")) or record


def _recurring(value: Any, due_ms: int | None) -> Recurring:
    return Recurring(
        definition=value.get(b"def"),
        version=int(value.get(b"ver") or 0),
        mark_ms=int(value.get(b"mark") or 0),
        count=int(value.get(b"count") or 0),
        paused=value.get(b"paused") == b"1",
        removed=value.get(b"removed") is not None,
        due_ms=due_ms,
    )
