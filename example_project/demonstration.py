"""Demonstration: the shop with two beats, of which the leading one is killed while entries are added, cancelled and fired.

1.  A worker and two beats are started; one beat leads, the other stands by.
2.  While they run, an interval entry, a chain and two one-time tasks are added, and one of those is cancelled again.
3.  The leader is killed with SIGKILL. The stand-by takes over when the lease has run out, and fires what came due meanwhile.
4.  The interval entry is removed.
5.  What ran is compared with what had to run: see ``verdict.py``.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from celery import chain

from celery_tw import CeleryTWError, TimeWheel, every, once
from celery_tw.integration.status import Member, Status
from example_project.observer import Observer
from example_project.processes import Children
from example_project.verdict import EDGE_MS, Expected, Outcome, expect, judge

START_TIMEOUT_S = 25.0
TAKEOVER_TIMEOUT_S = 10.0
DRAIN_TIMEOUT_S = 6.0

SETTINGS = ("stock-level", "open-carts", "berlin-prices", "tokyo-prices")
INTERVAL, CHAIN, CHAIN_END, SOON, CANCELLED = "added-interval", "added-chain", "added-chain-end", "added-once", "cancelled-once"


@dataclass(slots=True)
class Span:
    """While an entry was watched, in ms."""

    from_ms: int
    until_ms: int = 0


class Demonstration:
    """One run; ``run`` reads as the list above."""

    def __init__(self, app: Any, wheel: TimeWheel, children: Children, observer: Observer) -> None:
        self.app = app
        self.wheel = wheel
        self.children = children
        self.observer = observer
        self.say = observer.screen.step
        self.began_ms = _now_ms()
        self.slots_ms: dict[str, list[int]] = {}
        self.spans: dict[str, Span] = {}
        self.takeover_s = 0.0

    def run(self) -> list[Outcome]:
        """Return the account of each entry; raises `Failed` when something did not come about."""
        self.start()
        self.observer.watch(3)
        self.add_entries()
        self.observer.watch(3)
        self.cancel()
        self.kill_leader()
        self.observer.watch(4)
        self.remove_interval()
        self.observer.watch(2.5)
        return self.judge()

    # Steps

    def start(self) -> None:
        """Start the processes, and wait until all of them are at work."""
        self.say("A worker and two beats start")
        self.children.worker()
        self.children.beat(1)
        self.children.beat(2)
        wait_for = self.observer.wait_for
        status = wait_for("two beats, one of them leading", self._two_beats, START_TIMEOUT_S)
        wait_for("the entries of beat_schedule", self._installed, START_TIMEOUT_S)
        wait_for("a first task to run", lambda: len(self.observer.lines), START_TIMEOUT_S)
        for member in status.members:
            self.say(f"{self._named(member)} {'leads' if member.member_id == status.leader else 'stands by'}")
        for name in SETTINGS:
            self._watch_from_now(name, after=datetime.fromtimestamp(self.began_ms / 1000, UTC))

    def add_entries(self) -> None:
        """Add entries while the scheduler runs."""
        self.say("Added: a task every second, a chain every two, a one-time task 2.5 s from now and one in 8 s")
        tasks, now = self.app.tasks, datetime.now(UTC)
        soon = (now + timedelta(seconds=2.5)).replace(microsecond=0)
        chained = chain(tasks["shop.fetch_prices"].s(CHAIN), tasks["shop.store_prices"].s(CHAIN_END))
        self.wheel.schedule(INTERVAL, tasks["shop.check_stock"].s(INTERVAL), every(1))
        self.wheel.schedule(CHAIN, chained, every(2))
        self.wheel.schedule(SOON, tasks["shop.report"].s(SOON), once(soon))
        self.wheel.schedule(CANCELLED, tasks["shop.report"].s(CANCELLED), once(now + timedelta(seconds=8)))
        for name in (INTERVAL, CHAIN, SOON):
            self._watch_from_now(name, after=now)
        self.slots_ms[CHAIN_END] = self.slots_ms[CHAIN]  # the tasks of a chain share the slot of the first
        self.spans[CHAIN_END] = self.spans[CHAIN]

    def cancel(self) -> None:
        """Cancel the one-time task that has not come due."""
        self.say("Cancelled: the one-time task that was to come in 8 s")
        self.wheel.remove(CANCELLED)

    def kill_leader(self) -> None:
        """Kill the beat that leads, and wait until the other one does."""
        leader = _leader(self.wheel.status())
        child = None if leader is None else self.children.of_pid(leader.pid)
        if leader is None or child is None:
            raise CeleryTWError(f"the leader should be one of the beats started here, and is {leader}")
        self.say(f"{self._named(leader)}, the leader, is killed with SIGKILL")
        child.kill()
        killed_s = time.monotonic()
        following = self.observer.wait_for("the stand-by to lead", lambda: self._another_than(leader), TAKEOVER_TIMEOUT_S)
        self.takeover_s = time.monotonic() - killed_s
        self.say(f"{self._named(following)} leads after {self.takeover_s:.1f} s, and fires what came due meanwhile")

    def remove_interval(self) -> None:
        """Remove the interval entry and the chain, halfway between two of their slots."""
        self.observer.wait_for("a moment between two slots", self._between_slots, 5)
        self.say("Removed: the task every second, and the chain")
        for name in (INTERVAL, CHAIN):
            self.wheel.remove(name)
            self.spans[name].until_ms = _now_ms()

    def judge(self) -> list[Outcome]:
        """Wait until all that was expected has run, or long enough; return the account of each entry."""
        until_ms = _now_ms()
        for span in self.spans.values():
            span.until_ms = span.until_ms or until_ms
        deadline_s = time.monotonic() + DRAIN_TIMEOUT_S
        while any(outcome.missed_ms for outcome in self._outcomes(until_ms)) and time.monotonic() < deadline_s:
            self.observer.look()
        return self._outcomes(until_ms)

    # Facts

    def _two_beats(self) -> Status | None:
        status = self.wheel.status()
        return status if status.leader and len(status.members) == 2 else None

    def _installed(self) -> bool:
        return {entry.name for entry in self.wheel.entries().entries} >= set(self.app.conf.beat_schedule)

    def _another_than(self, leader: Member) -> Member | None:
        now_leading = _leader(self.wheel.status())
        return now_leading if now_leading and now_leading.member_id != leader.member_id else None

    def _between_slots(self) -> bool:
        return any(EDGE_MS < _now_ms() - slot_ms < 1000 - EDGE_MS for slot_ms in self.slots_ms[INTERVAL])

    def _named(self, member: Member) -> str:
        child = next((child for child in self.children.all if child.pid == member.pid), None)
        return f"{child.name if child else 'a scheduler'} (pid {member.pid})"

    def _watch_from_now(self, name: str, *, after: datetime) -> None:
        slots = self.wheel.preview(name, n=120, after=after)
        self.slots_ms[name] = [round(slot.timestamp() * 1000) for slot in slots]
        self.spans[name] = Span(_now_ms())

    def _outcomes(self, until_ms: int) -> list[Outcome]:
        outcomes = [judge(self._expected(name), self._ran_ms(name, until_ms)) for name in self.spans]
        cancelled = judge(Expected(CANCELLED, []), self.observer.ran_ms(CANCELLED))
        return [*outcomes, cancelled]

    def _expected(self, name: str) -> Expected:
        span = self.spans[name]
        return expect(name, self.slots_ms[name], from_ms=span.from_ms, until_ms=span.until_ms)

    def _ran_ms(self, name: str, until_ms: int) -> list[int]:
        """Return the slots that ran; those after the end of a whole run come in while it is being judged, and do not count."""
        whole_run = self.spans[name].until_ms == until_ms
        return [slot_ms for slot_ms in self.observer.ran_ms(name) if not whole_run or slot_ms <= until_ms]


def _leader(status: Status) -> Member | None:
    return next((member for member in status.members if member.member_id == status.leader), None)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
