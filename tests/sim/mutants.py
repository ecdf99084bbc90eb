"""Mutants: planted mistakes, each a small change of a script's text or of a method, that the simulation must find.

A simulation that finds nothing proves little unless it is known to find these. *within* says within how many seeds, with all faults at the
call in question, each is found; a mutant that is found later, or not at all, means that the oracles or the faults have become weaker.

The mark that FIRE compares stands behind a second guard, the due time: whatever has moved one has moved the other, so that either alone
suffices. So the mutant *no mark check* leaves both out, and the marks that clients compare are mutants apart. Even so no single fault
shows it: a leader reads its entries again after each call without an answer, and of two calls the older is refused by its number. It takes
a FIRE that comes after that reading and before its repetition, which are the faults of ``repeated fire``.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha1
from typing import Any

from celery_tw.scheduler.engine import Engine
from celery_tw.scheduler.measuring import Measuring
from celery_tw.scheduler.rooms import Rooms
from celery_tw.stores.redis.news import News, NewsReader
from celery_tw.stores.redis.scripts import script

Plant = Callable[[], Callable[[], None]]
"""Plants a mistake and returns what takes it out again."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A mistake, the rules that it may break, the call that it is in, and the number of seeds focused there within which it is seen.

    *lanes* tells that it takes a fair queue.
    """

    name: str
    rules: frozenset[str]
    focus: str
    within: int
    plants: tuple[Plant, ...]
    lanes: bool = False

    @contextmanager
    def planted(self) -> Iterator[None]:
        """Let the mistake be in the product meanwhile."""
        undo = [plant() for plant in self.plants]
        try:
            yield
        finally:
            for take_out in reversed(undo):
                take_out()


def _text(name: str, old: str, new: str) -> Plant:
    """Return a plant that puts *new* in the place of *old* in the script *name*."""

    def plant() -> Callable[[], None]:
        one = script(name)
        text, digest = one.text, one.digest
        assert text.count(old) == 1, f"{name}.lua has changed: {old!r} is there {text.count(old)} times"
        one.text = text.replace(old, new)
        one.digest = sha1(one.text.encode(), usedforsecurity=False).hexdigest()

        def take_out() -> None:
            one.text, one.digest = text, digest

        return take_out

    return plant


def _method(owner: type, name: str, changed: Callable[[Any], Any]) -> Plant:
    """Return a plant that puts what *changed* makes of it in the place of a method."""

    def plant() -> Callable[[], None]:
        real = getattr(owner, name)
        setattr(owner, name, changed(real))
        return lambda: setattr(owner, name, real)

    return plant


def _without_sweep(poll: Any) -> Any:
    def blind(self: Engine, now_ms: int) -> list[bytes]:
        real = self.dispatching.poll
        self.dispatching.poll = lambda **asked: ([], real(**asked)[1])  # type: ignore[method-assign]
        try:
            return poll(self, now_ms)  # type: ignore[no-any-return]
        finally:
            del self.dispatching.poll

    return blind


def _without_gaps(read: Any) -> Any:
    def deaf(self: NewsReader, *, block_ms: int) -> tuple[list[News], bool]:
        return read(self, block_ms=block_ms)[0], False

    return deaf


def _nothing_open(real: Any) -> Any:
    return lambda self, epoch: {}


def _seldom(real: Any) -> Any:
    return lambda self, queue, stand, room: 3000


EPOCH_CHECK = "if redis.call('HGET', leader, 'epoch') ~= epoch then return redis.error_reply('STALE epoch ' .. epoch) end"
NO_MARK = "if state[1] ~= e.version or tonumber(e.slot) <= (tonumber(state[2] or '0') or 0) then return 'moved' end"


def _mutant(name: str, rules: str, focus: str, within: int, *plants: Plant, lanes: bool = False) -> Mutant:
    return Mutant(name, frozenset(rules.split(", ")), focus, within, plants, lanes)


MUTANTS = (
    _mutant("no epoch check in FIRE", "fenced", "fire", 150, _text("fire", EPOCH_CHECK, "")),
    _mutant("no epoch check in FIRE ONCE", "fenced", "fire_once", 150, _text("fire_once", EPOCH_CHECK, "")),
    _mutant("no epoch check in DRAIN", "fenced", "drain", 150, _text("drain", EPOCH_CHECK, "")),
    _mutant(
        "no mark check",
        "once, phantom",
        "repeated fire",
        20,
        _text("fire", NO_MARK, "if state[1] ~= e.version then return 'moved' end"),
        _text("fire", "if score ~= e.due then return 'moved' end", "if not score then return 'moved' end"),
    ),
    _mutant(
        "no mark check in PUT",
        "mark, once, phantom, hole",
        "put",
        150,
        _text("put", "(found[1] or '') ~= version or moved then", "(found[1] or '') ~= version then"),
    ),
    _mutant(
        "no mark check in CHANGE",
        "mark, once, phantom, hole",
        "change",
        150,
        _text(
            "change",
            "if not stored[1] or stored[1] .. ' ' .. (stored[3] or '0') ~= version or stored[2]",
            "if not stored[1] or stored[1] ~= string.match(version, '%d+') or stored[2]",
        ),
    ),
    _mutant(
        "no version compare",
        "phantom",
        "fire",
        150,
        _text("fire", NO_MARK, NO_MARK.replace("state[1] ~= e.version or ", "")),
    ),
    _mutant("no sweep of due", "left over, stored", "news", 150, _method(Engine, "_poll", _without_sweep)),
    _mutant("news gap ignored", "late, left over", "news", 150, _method(NewsReader, "read", _without_gaps)),
    _mutant(
        "insert without nonce",
        "once",
        "put_once",
        150,
        _text("put_once", "elseif redis.call('ZSCORE', fired, mid) then", "elseif false then"),
    ),
    _mutant(
        "deferral without nonce",
        "once",
        "defer",
        150,
        _text("defer", "if fired_ms and now - fired_ms <= FIRED_KEPT_MS then return 'fired' end", ""),
    ),
    _mutant(
        "fires early",
        "early",
        "clock",
        150,
        _text("fire", "if tonumber(e.due) > now or tonumber(e.slot) > now then return 'early' end", ""),
    ),
    _mutant(
        "drains twice",
        "once, phantom",
        "repeated drain",
        150,
        _text("drain", "if state[1] ~= expected then return {now_text, 'moved'} end", ""),
    ),
    _mutant(
        "fires what is to come",
        "early",
        "clock",
        150,
        _text("fire", " or tonumber(e.slot) > now then return 'early' end", " then return 'early' end"),
    ),
    _mutant(
        "drains what was changed",
        "phantom",
        "drain",
        150,
        _text("drain", "if version ~= '' and known[1] ~= version then return {now_text, 'moved'} end", ""),
    ),
    _mutant(
        "skips unrecorded",
        "hole",
        "",
        60,
        _text("fire", "redis.call('ZADD', e.skips, e.skip_to, e.skip)", "redis.call('EXISTS', e.skips)"),
    ),
    _mutant(
        "late calls are carried out",
        "numbers",
        "fire_once",
        150,
        _text("fire", "if late then return 'moved' end", ""),
        _text("fire_once", "if late or score", "if score"),
        _text("drain", "if late then return {now_text, 'moved'} end", ""),
    ),
    _mutant("no epoch check in admission", "fenced", "admit", 60, _text("admit", EPOCH_CHECK, ""), lanes=True),
    _mutant(
        "admitted messages stay in their lane",
        "once, phantom, place, left over",
        "admit",
        20,
        _text("admit", "for place, some in pairs(left) do redis.call('ZREM'", "for place, some in pairs(left) do redis.call('ZSCORE'"),
        _text("admit", "redis.call('DEL', unpack(gone_keys))", "redis.call('EXISTS', unpack(gone_keys))"),
        lanes=True,
    ),
    _mutant(
        "late admissions are carried out",
        "numbers",
        "admit",
        60,
        _text("admit", "if late or score", "if score"),
        lanes=True,
    ),
    _mutant(
        "admitted messages leave their lane before they are pushed",
        "hole, stored",
        "admit",
        20,
        _text("admit", "unpack(waiting, first, math.min(first + 999, #waiting))", "waiting[1]"),
        lanes=True,
    ),
    _mutant(
        "a repeated question at the entrance leaves no mark",
        "once",
        "enter",
        60,
        _text("enter", "redis.pcall('ZADD', fired, now_text, mid .. ' ' .. entry)", ""),
        lanes=True,
    ),
    _mutant("fair queues are measured too seldom", "idle", "make_room", 20, _method(Measuring, "_pause_ms", _seldom), lanes=True),
    _mutant("nothing is admitted", "left over, stored", "admit", 20, _method(Rooms, "open", _nothing_open), lanes=True),
    _mutant("held tasks stay due", "phantom", "", 150, _text("hold", "redis.call('ZREM', due, id)", "redis.call('EXISTS', due)")),
)

by_name = {mutant.name: mutant for mutant in MUTANTS}
